"""Sixteen architectures, small and with random weights, each with a batch: what people bring."""

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

LIBRARIES = all(importlib.util.find_spec(name) for name in ("diffusers", "transformers"))
needs_libraries = pytest.mark.skipif(not LIBRARIES, reason="diffusers and transformers: make install EXTRA=diffusers")
TIMES = torch.tensor([10.0, 500.0])
Made = tuple[nn.Module, Callable[[], Tensor]]


def _images(*shape: int) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def _diffusers(name: str, x: Tensor, settings: dict[str, Any], **given: Any) -> Made:
    import diffusers

    model = getattr(diffusers, name)(**settings)
    given = {"timestep": TIMES} | given if name != "AutoencoderKL" else given
    first = "sample" if "sample" in inspect.signature(model.forward).parameters else "hidden_states"
    return model, lambda: model(**{first: x}, **given).sample


def _transformers(name: str, x: Tensor, **settings: Any) -> Made:
    import transformers

    config = getattr(transformers, f"{name}Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, **settings
    )
    model = getattr(transformers, f"{name}Model")(config)
    more = {"use_cache": False} if name == "Llama" else {}
    return model, lambda: model(x, **more).last_hidden_state


TOKENS = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2, "sample_size": 8}


def unet2d(**more: Any) -> Made:
    levels = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 4, "attention_head_dim": 8}
    return _diffusers("UNet2DModel", _images(3, 16, 16), sizes | levels | more)


def unet2d_scale_shift() -> Made:
    return unet2d(resnet_time_scale_shift="scale_shift")


def unet2d_condition() -> Made:
    settings = {
        **{"sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32)},
        **{"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 24},
        **{"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "layers_per_block": 1, "norm_num_groups": 4},
    }
    context = _images(7, 24)
    return _diffusers("UNet2DConditionModel", _images(4, 16, 16), settings, encoder_hidden_states=context)


def dit() -> Made:
    labels = torch.tensor([1, 2])
    settings = TOKENS | {"patch_size": 2, "num_embeds_ada_norm": 10}
    return _diffusers("DiTTransformer2DModel", _images(4, 8, 8), settings, timestep=TIMES.long(), class_labels=labels)


def sd3() -> Made:
    settings = TOKENS | {"patch_size": 2, "joint_attention_dim": 24, "caption_projection_dim": 16, "out_channels": 4}
    settings |= {"pooled_projection_dim": 12, "pos_embed_max_size": 8, "qk_norm": "rms_norm"}
    given = {"encoder_hidden_states": _images(7, 24), "pooled_projections": _images(12)}
    return _diffusers("SD3Transformer2DModel", _images(4, 8, 8), settings, **given)


def flux() -> Made:
    settings = {
        **{"patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16},
        **{
            "num_attention_heads": 2,
            "joint_attention_dim": 24,
            "pooled_projection_dim": 12,
            "axes_dims_rope": (4, 4, 8),
        },
    }
    given = {"encoder_hidden_states": _images(7, 24), "pooled_projections": _images(12), "timestep": TIMES / 1000}
    given |= {"img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(7, 3)}
    return _diffusers("FluxTransformer2DModel", _images(16, 4), settings, **given)


def pixart() -> Made:
    settings = TOKENS | {"out_channels": 8, "cross_attention_dim": 16, "patch_size": 2, "caption_channels": 24}
    settings |= {"norm_num_groups": 4, "use_additional_conditions": False}
    given = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}, "encoder_hidden_states": _images(7, 24)}
    return _diffusers("PixArtTransformer2DModel", _images(4, 8, 8), settings, **given)


def sana() -> Made:
    settings = TOKENS | {"out_channels": 4, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8}
    settings |= {"cross_attention_dim": 16, "caption_channels": 24, "patch_size": 1}
    return _diffusers("SanaTransformer2DModel", _images(4, 8, 8), settings, encoder_hidden_states=_images(7, 24))


def vae() -> Made:
    sizes = {"block_out_channels": (16, 32), "latent_channels": 4, "norm_num_groups": 4, "sample_size": 16}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return _diffusers("AutoencoderKL", _images(3, 16, 16), sizes | blocks)


def vit() -> Made:
    return _transformers("ViT", _images(3, 16, 16), intermediate_size=64, image_size=16, patch_size=4)


def bert() -> Made:
    return _transformers("Bert", torch.arange(14).view(2, 7), intermediate_size=64, vocab_size=50)


def llama() -> Made:
    words = torch.arange(14).view(2, 7)
    return _transformers("Llama", words, intermediate_size=64, vocab_size=50, num_key_value_heads=2)


def dinov2() -> Made:
    return _transformers("Dinov2", _images(3, 16, 16), mlp_ratio=2, image_size=16, patch_size=4, use_swiglu_ffn=True)


def clip() -> Made:
    settings = {"intermediate_size": 64, "vocab_size": 50, "max_position_embeddings": 16}
    import transformers

    made = transformers.CLIPTextConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, eos_token_id=49, bos_token_id=0, **settings
    )
    model, words = transformers.CLIPTextModel(made), torch.arange(14).view(2, 7)
    return model, lambda: model(words).last_hidden_state


def encoder() -> Made:
    layer = nn.TransformerEncoderLayer(32, 2, 64, activation="gelu", batch_first=True, norm_first=True)
    model, x = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), _images(7, 32)
    return model, lambda: model(x)


class HandSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class WideGroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).type(x.dtype)


class ChannelNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, unbiased=False, keepdim=True)
        return (x - mean) * (variance + 1e-5).rsqrt() * self.gain


class HandBlock(nn.Module):
    """A residual block as people write them: the activation as a function, a method, a module or a formula."""

    def __init__(self, dim_in: int, dim_out: int, way: str) -> None:
        super().__init__()
        self.way, self.act = way, HandSwish()
        self.norm_in, self.conv_in = WideGroupNorm(4, dim_in), nn.Conv2d(dim_in, dim_out, 3, padding=1)
        self.norm_out = ChannelNorm(dim_out) if way == "formula" else nn.GroupNorm(4, dim_out)
        self.conv_out, self.time = nn.Conv2d(dim_out, dim_out, 3, padding=1), nn.Linear(32, dim_out)
        self.skip = nn.Conv2d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def activation(self, x: Tensor) -> Tensor:
        if self.way == "function":
            return functional.silu(x)
        if self.way == "method":
            return x.relu()
        return self.act(x) if self.way == "module" else x * x.sigmoid()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.conv_in(self.activation(self.norm_in(x))) + self.time(self.activation(t))[:, :, None, None]
        h = functional.group_norm(h, 4) if self.way == "method" else self.norm_out(h)
        return self.skip(x) + self.conv_out(self.activation(h))


class HandUNet(nn.Module):
    """A small U-Net of such blocks: (B, channels, S, S), (B,) -> (B, channels, S, S)."""

    def __init__(self, width: int = 16, channels: int = 3) -> None:
        super().__init__()
        w = width
        self.embed = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32))
        self.first = nn.Conv2d(channels, w, 3, padding=1)
        self.down = nn.ModuleList([HandBlock(w, w, "function"), HandBlock(w, 2 * w, "module")])
        self.middle = HandBlock(2 * w, 2 * w, "method")
        self.up = nn.ModuleList([HandBlock(4 * w, w, "formula"), HandBlock(2 * w, w, "function")])
        self.last = nn.Sequential(nn.GroupNorm(4, w), nn.SiLU(), nn.Conv2d(w, channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        e = self.embed(t[:, None] / 1000)
        a = self.down[0](self.first(x), e)
        b = self.down[1](functional.avg_pool2d(a, 2), e)
        h = self.up[0](torch.cat([self.middle(b, e), b], 1), e)
        return self.last(self.up[1](torch.cat([functional.interpolate(h, scale_factor=2.0), a], 1), e))


def hand() -> Made:
    model, x = HandUNet(), _images(3, 16, 16)
    return model, lambda: model(x, TIMES)


OURS: list[Callable[[], Made]] = [encoder, hand]
ALL = [
    *(unet2d, unet2d_scale_shift, unet2d_condition, dit, sd3, flux, pixart, sana, vae),
    *(vit, bert, llama, dinov2, clip, *OURS),
]


def parametrized(functions: list[Callable[[], Made]]) -> Any:
    """The models for pytest.mark.parametrize; those of a library that is not here are skipped."""
    return [pytest.param(f, id=f.__name__, marks=[] if f in OURS else [needs_libraries]) for f in functions]


def make(function: Callable[[], Made]) -> Made:
    """A model and what runs it, always with the same weights, without dropout."""
    torch.manual_seed(0)
    model, run = function()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model, run

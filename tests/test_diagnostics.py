"""What the health metrics say of networks whose health is known."""

import pytest
import torch
from torch import nn

from denoise import catalog, config
from denoise.diagnostics import DeadUnits, first_bad_layer, gradient_norms, is_activation, watching
from denoise.train import prepare


def activation(option: str = "relu") -> nn.Module:
    cfg = config.compose([f"activation={option}"]).cfg
    return catalog.factory("activation", cfg.activation)()


def dead(model: nn.Module, x: torch.Tensor) -> dict[str, float]:
    units = DeadUnits()
    with watching(model, is_activation, units.watch):
        model(x)
    return units.metrics()


def module():
    tiny = ["model.width=8", "model.embedding_dim=16", "model.num_heads=2", "trainer.accelerator=cpu"]
    return prepare(config.compose([*tiny, "data.batch_size=8", "zero_output=false", "activation=relu"]).cfg)


@pytest.mark.parametrize(("bias", "fraction"), [(-1e6, 1.0), (1e6, 0.0)])
def test_a_relu_with_a_huge_bias_is_dead_or_alive(bias, fraction):
    model = nn.Sequential(nn.Linear(4, 6), activation())
    nn.init.constant_(model[0].bias, bias)
    met = dead(model, torch.randn(20, 4))
    assert met == {"health/dead_fraction": fraction, "health/dead_fraction/1": fraction}


@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (5, 9, 4), (5, 4)], ids=["map", "tokens", "embedding"])
def test_dead_channels_are_counted_in_each_layout(shape):
    """A channel is dead that is zero everywhere; one that is zero somewhere is not."""
    x = torch.ones(shape)
    channel = 1 if len(shape) == 4 else -1
    x.select(channel, 0).fill_(-1)
    x.select(channel, 1)[0] = -1
    model = nn.Sequential(activation())
    assert dead(model, x)["health/dead_fraction"] == 0.25
    assert dead(nn.Sequential(activation("elu")), x)["health/dead_fraction"] == 0


def test_hooks_are_taken_off():
    model = nn.Sequential(activation())
    with pytest.raises(RuntimeError), watching(model, is_activation, DeadUnits().watch):
        raise RuntimeError
    assert not model[0]._forward_hooks


def test_a_whole_backbone_with_huge_negative_biases_is_dead():
    m = module()
    for _name, layer in m.denoiser.backbone.named_modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.bias, -1e6)
            nn.init.zeros_(layer.weight)
    m.denoiser.backbone.norm_out = nn.Identity()
    units = DeadUnits()
    with watching(m.denoiser, is_activation, units.watch):
        m.denoiser.loss(*m.draw(0))
    assert units.metrics()["health/dead_fraction/backbone.activation_out"] == 1


def test_gradient_norms_are_torchs():
    """Of the matrices, layer by layer in order, and of all of them together."""
    m = module()
    m.denoiser.loss(*m.draw(0)).mean().backward()
    met = gradient_norms(m.denoiser.backbone)
    matrices = {n: p for n, p in m.denoiser.backbone.named_parameters() if p.ndim >= 2}
    for name, p in matrices.items():
        assert met[f"health/gradient_norm/{name.removesuffix('.weight')}"] == pytest.approx(
            p.grad.norm().item(), rel=1e-5
        )
    total = torch.nn.utils.get_total_norm([p.grad for p in matrices.values()]).item()
    assert met["health/gradient_norm"] == pytest.approx(total, rel=1e-5)
    first, last = met["health/gradient_norm/conv_in"], met["health/gradient_norm/conv_out"]
    assert met["health/gradient_norm_first_to_last"] == pytest.approx(first / last, rel=1e-5)
    assert len(met) == len(matrices) + 2


@pytest.mark.parametrize("option", catalog.options("weight_normalization"))
def test_gradient_norms_name_a_layer_under_weight_normalization_once(option):
    model = nn.Sequential(catalog.build("weight_normalization", option, nn.Linear(3, 4)), nn.Linear(4, 1))
    model(torch.randn(5, 3)).sum().backward()
    layers = {name for name in gradient_norms(model) if "gradient_norm/" in name}
    assert layers == {"health/gradient_norm/0", "health/gradient_norm/1"}


def test_no_gradient_no_metric():
    assert gradient_norms(nn.Linear(2, 2)) == {}


@pytest.mark.parametrize(
    "layer", ["conv_in", "embedding.hidden", "down.0.0.conv_in", "down.1.1.attention.qkv", "middle.0.norm", "conv_out"]
)
def test_first_bad_layer_is_the_one_that_was_spoilt(layer):
    m = module()
    spoilt = m.denoiser.backbone.get_submodule(layer)
    with torch.no_grad():
        weight = next(spoilt.parameters())
        weight[(0,) * weight.ndim] = float("nan")
    found = first_bad_layer(m.denoiser, lambda: m.denoiser.loss(*m.draw(0)))
    assert found.startswith(f"backbone.{layer}")


def test_without_a_bad_layer_the_loudest_is_named():
    m = module()
    with torch.no_grad():
        m.denoiser.backbone.down[1][1].feed_forward.hidden.weight.mul_(1e5)
    found = first_bad_layer(m.denoiser, lambda: m.denoiser.loss(*m.draw(0)))
    assert found.startswith("backbone.down.1.1.feed_forward")

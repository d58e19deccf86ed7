"""What kernels puts in: the same numbers by another way, in a model that was written without it."""

import pytest
import torch
from torch import Tensor, nn

from denoise.activation import PAU
from denoise.config.compose import compose
from denoise.data.images import load
from denoise.kernels import linear, put_in
from denoise.kernels.pade import Recomputed
from denoise.training.build import build_backbone, build_denoiser, build_parts
from tests.tiny import TINY

CHANNELS = 4
SMALL = {"unet": TINY, "dit": ["model=dit", "model.dim=8", "model.depth=1", "model.num_heads=2"]}
TINY_PAU = ["activation=pau", "zero_output=false"]


@pytest.mark.parametrize("model", SMALL)
def test_a_model_keeps_its_layers_weights_and_values(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_in, "CONVOLVES", True)
    cfg = compose([*SMALL[model], *TINY_PAU]).cfg
    plain = build_backbone(cfg, load(cfg.data), build_parts(cfg))
    x, c_noise = torch.randn(16, 1, 8, 8), torch.randn(16)
    held, wanted = {name: id(t) for name, t in plain.named_parameters()}, plain(x, c_noise)
    put_in.put_in(plain)
    assert {name: id(t) for name, t in plain.named_parameters()} == held
    kinds = {type(module) for module in plain.modules()}
    assert {linear.Linear, Recomputed} <= kinds and not {nn.Linear, PAU} & kinds
    torch.testing.assert_close(plain(x, c_noise), wanted)


def test_a_model_is_built_with_them() -> None:
    """Also where weight normalization makes a class of its own of each layer's."""
    cfg = compose([*TINY, *TINY_PAU, "weight_normalization=weight_norm"]).cfg
    denoiser = build_denoiser(cfg, load(cfg.data))
    assert any(isinstance(module, Recomputed) for module in denoiser.modules())
    assert linear.CONVOLVES == any(isinstance(module, linear.Linear) for module in denoiser.modules())


# ---------------------------------------------------------------- the Pade unit with a gradient of its own


def case(kind: torch.dtype = torch.float64) -> tuple[Recomputed, PAU, Tensor]:
    """The unit, its formula under autograd, and numbers off 0; the coefficients are off their start."""
    torch.manual_seed(0)
    plain, mine = PAU().to(kind), PAU().to(kind)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.05 * torch.rand_like(parameter))
    mine.load_state_dict(plain.state_dict())
    put_in.put_in(mine)
    assert isinstance(mine, Recomputed)
    return mine, plain, torch.randn(2, CHANNELS, 3, 3, dtype=kind).requires_grad_()


def test_its_gradient_is_the_formulas() -> None:
    mine, _, x = case()
    inputs = [x[:1, :, :2, 0].detach().requires_grad_(), *mine.parameters()]
    names = [name for name, _ in mine.named_parameters()]

    def f(x: Tensor, *learned: Tensor) -> Tensor:
        return torch.func.functional_call(mine, dict(zip(names, learned, strict=True)), (x,))

    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
def test_so_it_is_from_the_smallest_to_the_largest(kind: torch.dtype) -> None:
    mine, plain, _ = case(kind)
    sizes = torch.cat([10.0 ** torch.arange(-38, 30, dtype=kind), torch.linspace(0.01, 30, 99, dtype=kind)])
    for each in torch.cat([-sizes, sizes])[:, None]:
        x = each.requires_grad_()
        found, wanted = (torch.autograd.grad(m(x).sum(), [x, *m.parameters()]) for m in (mine, plain))
        torch.testing.assert_close(mine(x), plain(x))
        torch.testing.assert_close(found, wanted, rtol=2e-5, atol=1e-30)


def test_it_keeps_its_input_alone() -> None:
    mine, plain, _ = case(torch.float32)
    x = torch.randn(8, CHANNELS, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    sizes = []
    for module in (mine, plain):
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = module(x)
        assert y.is_contiguous(memory_format=torch.channels_last)
        sizes.append(sum(kept.values()) / x.untyped_storage().nbytes())
    assert sizes[0] < 1.1 and sizes[1] > 8


def test_the_transforms_and_the_compiler_follow_it() -> None:
    mine, plain, x = case()
    many = {name: torch.stack([p, p + 0.1]).detach() for name, p in plain.named_parameters()}

    def slope(numbers: dict[str, Tensor], module: nn.Module = mine) -> Tensor:
        return torch.func.grad(lambda one: torch.func.functional_call(module, numbers, (one,)).sum())(x.detach())

    wanted = torch.stack([slope({name: p[i] for name, p in many.items()}, plain) for i in range(2)])
    torch.testing.assert_close(torch.func.vmap(slope)(many), wanted)
    torch.testing.assert_close(torch.compile(mine, backend="aot_eager", fullgraph=True)(x), plain(x))
    half = x.detach().bfloat16()
    assert mine(half).dtype == torch.bfloat16 and torch.equal(mine(half), plain(half))

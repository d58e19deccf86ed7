"""What a norm keeps of float32's digits: a mean far from 0, outliers, values all alike, no values at all."""

import math

import pytest
import torch
from torch import Tensor

from denoise.config import catalog
from denoise.normalization.positions import GroupNorm
from tests import formulas

OPTIONS = catalog.options("normalization")
CENTRED = [
    (option, groups)
    for option in OPTIONS
    if any(isinstance(m, GroupNorm) for m in catalog.build("normalization", option, 8).modules())
    for groups in catalog.entry("normalization", option).space.get("num_groups", {}).get("choices", [0])
]
LAYOUTS = ["contiguous", "channels_last", "tokens"]
SHAPES = [(2, 16, 8, 8), (2, 32, 28, 28)]


def laid(x: Tensor, layout: str) -> Tensor:
    if layout == "tokens":
        return x.flatten(2).transpose(1, 2).contiguous()
    return x.contiguous(memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format)


def positions_last(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2) if x.ndim == 4 else x


def held(option: str, groups: int, x: Tensor, pull: Tensor) -> None:
    """Assert value and gradients to 1e-3 of the largest, against the formula in float64 on the same numbers."""
    given = {"num_groups": groups} if groups else {}
    channels = x.shape[1] if x.ndim == 4 else x.shape[2]
    module = catalog.build("normalization", option, channels, **given)
    inputs = [x.requires_grad_(), *module.parameters()]
    y = module(x)
    exact = [one.detach().double().requires_grad_() for one in inputs]
    parameters = {**catalog.entry("normalization", option).parameters, **given}
    state = {"weight": exact[1], "bias": exact[2]}
    wanted = formulas.find("normalization", option)(positions_last(exact[0]), state, training=True, **parameters)
    pairs = zip(
        [positions_last(y), *torch.autograd.grad(y, inputs, pull)],
        [wanted, *torch.autograd.grad(wanted, exact, positions_last(pull).double())],
        strict=True,
    )
    for mine, theirs in pairs:
        assert (mine.double() - theirs).abs().max() <= 1e-3 * theirs.abs().max()


@pytest.mark.parametrize("ratio", [1e1, 1e3, 1e4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("option", "groups"), CENTRED)
def test_a_mean_of_many_standard_deviations(option, groups, layout, shape, ratio):
    torch.manual_seed(0)
    held(option, groups, laid(torch.randn(shape) + ratio, layout), laid(torch.randn(shape), layout))


@pytest.mark.parametrize("spike", [1e2, 1e5])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("option", "groups"), CENTRED)
def test_a_first_value_unlike_all_others(option, groups, layout, spike):
    torch.manual_seed(0)
    x = torch.randn(2, 32, 28, 28) + 1000
    x[:, :, 0, 0] += spike
    held(option, groups, laid(x, layout), laid(torch.randn(x.shape), layout))


@pytest.mark.parametrize("value", [0.1, -3000.1, 7e12])
@pytest.mark.parametrize("shape", [(2, 32, 5, 3), (2, 32, 1, 1), (1, 32, 1, 1)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("option", "groups"), CENTRED)
def test_values_all_alike_give_beta_to_the_last_bit(option, groups, layout, shape, value):
    """gamma's gradient is then 0; so is that of x where a group has one value."""
    module = catalog.build("normalization", option, 32, **({"num_groups": groups} if groups else {}))
    torch.manual_seed(0)
    x = laid(torch.full(shape, value) + torch.arange(shape[0]).view(-1, 1, 1, 1), layout).requires_grad_()
    with torch.no_grad():
        module.norm.bias.normal_()
    y = module(x)
    y.backward(laid(torch.randn(shape), layout))
    assert torch.equal(positions_last(y), module.norm.bias.expand_as(positions_last(y)))
    assert not module.norm.weight.grad.any()
    if math.prod(shape[1:]) == (groups or 32):
        assert not x.grad.any()


@pytest.mark.parametrize("shape", [(2, 8, 0, 4), (2, 0, 8), (0, 8, 4, 4)], ids=str)
@pytest.mark.parametrize("option", OPTIONS)
def test_without_values_nothing_is_learned(option, shape):
    module, x = catalog.build("normalization", option, 8), torch.zeros(shape, requires_grad=True)
    y = module.eval()(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape
    assert not any(parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize("scale", [1e-30, 1e14, 1e18])
@pytest.mark.parametrize("option", OPTIONS)
def test_gradients_at_any_scale(option, scale):
    """Whose squares float32 still holds; against the same in float64."""
    torch.manual_seed(0)
    x, pull = scale * torch.randn(3, 6, 8), torch.randn(3, 6, 8)
    found = []
    for kind in (torch.float32, torch.float64):
        start = x.to(kind).requires_grad_()
        y = catalog.build("normalization", option, 8).to(kind)(start)
        found.append([y.detach().double(), torch.autograd.grad(y, start, pull.to(kind))[0].double()])
    for mine, exact in zip(*found, strict=True):
        assert (mine - exact).abs().max() <= 1e-4 * exact.abs().max()


def test_one_channel_beyond_squares_leaves_far_ones_alone():
    x = torch.ones(1, 1, 8)
    x[..., 3] = 1e20
    x.requires_grad_()
    y = catalog.build("normalization", "local_response_norm", 8)(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    wanted = torch.nn.functional.local_response_norm(torch.ones(1, 8, 1), 5, 5e-4, 0.75, 2.0)[0, :, 0]
    torch.testing.assert_close(y[0, 0, 6:], wanted[6:])

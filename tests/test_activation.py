"""Every activation against its formula in float64. One test for all: an option is a file and a formula."""

import formulas
import pytest
import torch
from torch import Tensor

from denoise import catalog

OPTIONS = catalog.options("activation")
SPACES = [(option, name) for option in OPTIONS for name in catalog.entry("activation", option).space]
LARGE = [20.3, 50.7, 100.9, 1000.3]
# off the integers, where a formula may have a kink; (N, 1)
GRID = torch.cat([torch.linspace(-6, 6, 121) + 0.0137, torch.tensor(LARGE), -torch.tensor(LARGE)]).double()[:, None]


def build(option: str, **parameters: float) -> torch.nn.Module:
    return catalog.build("activation", option, **parameters).double().eval()


def within(domain: dict, share: float) -> float:
    """A value of a domain: the option or the number `share` of the way through it."""
    if domain["type"] == "categorical":
        return domain["choices"][round(share * (len(domain["choices"]) - 1))]
    low, high = domain["low"], domain["high"]
    value = low * (high / low) ** share if domain.get("log") else low + share * (high - low)
    return round(value) if domain["type"] == "int" else value


def slope(f, x: Tensor, step: float = 1e-4) -> Tensor:
    """d sum(f(x)) / dx, entry by entry, by central differences of fourth order."""
    result = torch.empty_like(x)
    for i in range(x.numel()):
        total = 0.0
        for factor, move in ((8, step), (-8, -step), (-1, 2 * step), (1, -2 * step)):
            moved = x.clone()
            moved.view(-1)[i] += move
            total += factor * (f(moved) - f(x)).sum().item()
        result.view(-1)[i] = total / (12 * step)
    return result


@pytest.mark.parametrize("option", OPTIONS)
def test_value_and_gradient_follow_the_formula(option):
    formula = formulas.find("activation", option)
    parameters = dict(catalog.entry("activation", option).parameters)
    x = GRID.clone().requires_grad_()
    y = build(option)(x)
    torch.testing.assert_close(y.detach(), formula(GRID, **parameters), rtol=1e-9, atol=1e-8)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, slope(lambda v: formula(v, **parameters), GRID), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("option", OPTIONS)
def test_single_precision_stays_finite_far_out(option):
    x = torch.tensor([[-1e4], [-100.0], [-30.0], [0.0], [30.0], [100.0], [1e4]], requires_grad=True)
    y = catalog.build("activation", option)(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 6, 4), (3, 4)], ids=["map", "tokens", "embedding"])
def test_shape_is_kept_and_learned_parameters_learn(option, shape):
    module = catalog.build("activation", option)
    torch.manual_seed(0)
    y = module(torch.randn(shape))
    assert y.shape == shape and y.dtype == torch.float32
    weight = torch.randn(shape)
    for name, parameter in module.named_parameters():
        (gradient,) = torch.autograd.grad((y * weight).sum(), parameter, retain_graph=True)
        assert gradient.abs().max() > 1e-6, f"{option}: {name} gets no gradient"


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("option", "name"), SPACES)
def test_each_searched_parameter_acts_as_in_the_formula(option, name, share):
    entry = catalog.entry("activation", option)
    parameters = {**entry.parameters, name: within(entry.space[name], share)}
    y = build(option, **parameters)(GRID).detach()
    # a learned parameter starts in single precision
    torch.testing.assert_close(y, formulas.find("activation", option)(GRID, **parameters), rtol=1e-6, atol=1e-6)
    others = [build(option, **{name: within(entry.space[name], s)})(GRID) for s in (0.0, 0.4, 1.0) if s != share]
    assert all((y - other).abs().max() > 1e-3 for other in others)


@pytest.mark.parametrize("option", OPTIONS)
def test_file_gives_formula_and_source(option):
    entry = catalog.entry("activation", option)
    assert entry.formula and entry.source and entry.target
    assert set(entry.space) <= set(entry.parameters)


def test_swish_at_beta_one_is_silu_and_learns_beta():
    swish = build("swish")
    torch.testing.assert_close(swish(GRID), build("silu")(GRID))
    assert [name for name, _ in swish.named_parameters()] == ["beta"]


def test_swish_tends_to_relu_and_to_half_of_x():
    x = GRID[:121]
    torch.testing.assert_close(build("swish", beta=1e4)(x), x.clamp(min=0), rtol=0, atol=1e-4)
    torch.testing.assert_close(build("swish", beta=1e-6)(x), x / 2, rtol=0, atol=1e-4)

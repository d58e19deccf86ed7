"""Every initializer: mean, variance and bound of its weights against the formula; the automatic gain."""

import math

import formulas
import pytest
import torch
from formulas.initializer import gain_of

from denoise import catalog
from denoise.initializer import auto_gain
from denoise.refusal import Refusal

OPTIONS = catalog.options("initializer")
ACTIVATIONS = catalog.options("activation")
SHAPES = {"linear": (512, 256), "conv": (128, 64, 3, 3)}
GAINS = [
    (option, gain)
    for option in OPTIONS
    if "gain" in catalog.entry("initializer", option).parameters
    for gain in ("auto", "torch", 1.7)
]
CASES = [(option, None) for option in OPTIONS] + GAINS


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("option", "gain"), CASES)
def test_weights_follow_the_law(option, gain, shape):
    """Tolerances are six standard errors of n draws; tanh is the activation that follows."""
    formula = formulas.find("initializer", option)
    given = {} if gain is None else {"gain": gain}
    parameters = {**catalog.entry("initializer", option).parameters, **given}
    if "gain" in parameters:
        parameters["gain"] = gain_of(parameters["gain"], "tanh")
    law = formula(shape, **parameters)
    torch.manual_seed(0)
    weight = torch.full(shape, math.nan)
    assert catalog.build("initializer", option, weight, catalog.build("activation", "tanh"), **given) is None
    weight, n = weight.double(), weight.numel()
    assert abs(weight.mean().item() - law.mean) <= 6 * math.sqrt(law.variance / n)
    assert weight.var().item() == pytest.approx(law.variance, rel=6 * math.sqrt(2 / n), abs=1e-12)
    if math.isfinite(law.bound):
        assert 0.99 * law.bound <= weight.abs().max() <= law.bound * (1 + 1e-6)
    else:
        assert weight.abs().max() > 3 * math.sqrt(law.variance)  # not uniform, whose bound is 1.73


@pytest.mark.parametrize("option", OPTIONS)
def test_searched_parameters_act(option):
    entry = catalog.entry("initializer", option)
    for name, domain in entry.space.items():
        drawn = []
        for value in (domain["low"], domain["high"]):
            torch.manual_seed(0)
            weight = torch.zeros(16, 16)
            catalog.build("initializer", option, weight, torch.nn.ReLU(), **{name: value})
            drawn.append(weight)
        assert not torch.equal(*drawn), f"{option}: {name} does nothing"


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (16, 4, 3, 3)])
def test_orthogonal_rows_or_columns(shape):
    weight = torch.zeros(shape)
    catalog.build("initializer", "orthogonal", weight, torch.nn.ReLU(), gain=1.5)
    q = weight.flatten(1).double() / 1.5
    product = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    torch.testing.assert_close(product, torch.eye(len(product), dtype=torch.float64), rtol=0, atol=1e-5)


def test_gain_of_relu_and_of_nothing():
    assert auto_gain(torch.nn.ReLU()) == pytest.approx(math.sqrt(2), rel=1e-5)
    assert auto_gain(torch.nn.Identity()) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_gain_is_the_integral(activation):
    parameters = catalog.entry("activation", activation).parameters
    f = formulas.find("activation", activation)
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weight = (-(z**2) / 2).exp() / math.sqrt(2 * math.pi) * (z[1] - z[0])
    wanted = (f(z[None], **parameters)[0] ** 2 * weight).sum().item() ** -0.5
    assert auto_gain(catalog.build("activation", activation)) == pytest.approx(wanted, rel=1e-5)


@torch.no_grad()
def growth(activation: str, layers: int = 32, width: int = 512, rescale: bool = True, **parameters) -> list[float]:
    """The second moment behind each linear layer; `rescale` brings each image back to 1 before the next.

    The gain, and so this, is of the activation in evaluation: draws add some to the second moment.
    """
    f = catalog.build("activation", activation).eval()
    h, met = torch.randn(64, width), []
    for _ in range(layers):
        weight = torch.empty(width, width)
        catalog.build("initializer", "kaiming_normal", weight, f, **parameters)
        h = f(h) @ weight.T
        met.append(h.square().mean().item())
        if rescale:
            h = h / h.square().mean(dim=1, keepdim=True).sqrt()
    return met


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_gain_keeps_the_second_moment_through_each_layer(activation):
    """Each of 32 layers hands on a second moment of 1, so that their product stays within a factor of 4.

    Started at 1 and left alone, silu and gelu drift all the same: their second moment grows faster than that of
    their input, and no factor can hold an unstable point.
    """
    torch.manual_seed(0)
    met = growth(activation)
    assert 0.6 < min(met) and max(met) < 1.7
    assert 1 / 4 < math.prod(met) < 4, f"{activation}: 32 layers multiply by {math.prod(met):.3g}"


def test_depth_needs_the_gain():
    """He's claim: a stack of relu keeps its variance with gain sqrt(2) and loses 2^-32 of it with gain 1."""
    torch.manual_seed(0)
    assert 0.2 < growth("relu", rescale=False)[-1] < 5
    assert growth("relu", rescale=False, gain=1.0)[-1] < 1e-8
    assert 0.2 < growth("tanh", rescale=False)[-1] < 5


def test_gains_that_are_none_are_refused():
    weight = torch.zeros(4, 4)
    with pytest.raises(Refusal, match="gain=auto"):
        catalog.build("initializer", "kaiming_normal", weight, torch.nn.Mish(), gain="torch")
    with pytest.raises(Refusal, match="legal: auto, torch"):
        catalog.build("initializer", "kaiming_normal", weight, torch.nn.ReLU(), gain="large")

"""Every feed-forward against its formula with the module's own weights; equal parameters."""

import pytest
import torch

from denoise.config import catalog
from denoise.training import cost
from tests import formulas

OPTIONS = catalog.options("feed_forward")


def build(option: str, dim: int = 12, hidden_dim: int = 24, activation: str = "tanh") -> torch.nn.Module:
    torch.manual_seed(0)
    return catalog.build("feed_forward", option, dim, hidden_dim, lambda *_: catalog.build("activation", activation))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("option", OPTIONS)
def test_follows_the_formula(option, activation):
    formula = formulas.find("feed_forward", option)
    module = build(option, activation=activation).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    weights = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    y = module(x)
    assert y.shape == x.shape
    torch.testing.assert_close(
        y.detach(), formula(x, weights, formulas.find("activation", activation)), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("option", OPTIONS)
def test_every_parameter_gets_a_gradient(option):
    module = build(option)
    module(torch.randn(2, 5, 12)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, f"{option}: {name}"


@pytest.mark.parametrize(("dim", "hidden_dim"), [(96, 384), (64, 128), (32, 128)])
@pytest.mark.parametrize("option", OPTIONS)
def test_parameters_are_those_of_the_mlp(option, dim, hidden_dim):
    """Shazeer 2020: gated layers are compared at equal size, within 2 %."""
    mlp = 2 * dim * hidden_dim + dim + hidden_dim
    assert cost.parameters(build(option, dim, hidden_dim)) == pytest.approx(mlp, rel=0.02)


@pytest.mark.parametrize("option", OPTIONS)
def test_last_layer_is_out(option):
    """A zeroed initialization finds it by this name: the layer then maps to zero."""
    module = build(option)
    torch.nn.init.zeros_(module.out.weight)
    torch.nn.init.zeros_(module.out.bias)
    assert module(torch.randn(2, 5, 12)).abs().max() == 0

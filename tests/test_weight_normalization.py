"""Every weight normalization: the weight that a layer uses against the formula in float64."""

import formulas
import pytest
import torch
from torch import nn

from denoise import catalog

OPTIONS = catalog.options("weight_normalization")
LAYERS = {"linear": lambda: nn.Linear(6, 5), "conv": lambda: nn.Conv2d(3, 4, 3)}
INPUTS = {"linear": (7, 6), "conv": (2, 3, 5, 5)}


def build(option: str, layer: str) -> nn.Module:
    torch.manual_seed(0)
    module = catalog.build("weight_normalization", option, LAYERS[layer]().double())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return module


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_effective_weight_follows_the_formula(option, layer):
    formula = formulas.find("weight_normalization", option)
    module = build(option, layer)
    x = torch.randn(INPUTS[layer], dtype=torch.float64)
    for _ in range(50):  # what is estimated by iteration settles
        module(x)
    module.eval()
    own = {name.split(".")[-1]: p.detach() for name, p in module.named_parameters() if name != "bias"}
    wanted = formula(own, **catalog.entry("weight_normalization", option).parameters)
    torch.testing.assert_close(module.weight.detach(), wanted, rtol=1e-6, atol=1e-8)
    plain = LAYERS[layer]().double()
    plain.load_state_dict({"weight": wanted, "bias": module.bias.detach()})
    torch.testing.assert_close(module(x), plain(x))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_parameter_gets_a_gradient(option, layer):
    module = build(option, layer)
    y = module(torch.randn(INPUTS[layer], dtype=torch.float64))
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6, f"{option}: {name}"


def test_weight_norm_starts_at_the_initialized_weight():
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    before = layer.weight.detach().clone()
    torch.testing.assert_close(catalog.build("weight_normalization", "weight_norm", layer).weight.detach(), before)

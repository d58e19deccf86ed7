"""Every weight normalization: the weight that a layer uses against the formula in float64."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from denoise.config import catalog, compose
from denoise.optimizer import parameter_groups
from denoise.training.train import prepare, train
from tests import formulas

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


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_layer_is_copied_and_restored_whole(option, layer):
    """By deepcopy and by its state; a copy shares nothing; without storage (for counting) it runs too."""
    module, x = build(option, layer), torch.randn(INPUTS[layer], dtype=torch.float64)
    twin = copy.deepcopy(module)
    torch.manual_seed(9)
    restored = catalog.build("weight_normalization", option, LAYERS[layer]().double())
    restored.load_state_dict(module.state_dict())
    y = module.eval()(x)
    for other in (twin, restored):
        assert torch.equal(other.eval()(x), y)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        twin.train()(3 * x)
        for parameter in twin.parameters():
            parameter.mul_(2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert copy.deepcopy(module).to("meta").eval()(x.to("meta")).shape == y.shape


@pytest.mark.parametrize("option", OPTIONS)
def test_evaluation_keeps_the_layer_as_it_is(option):
    module = build(option, "conv").eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module(torch.randn(INPUTS["conv"], dtype=torch.float64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_weight_decay_is_for_what_stands_in_the_weights_place(option, layer):
    module = build(option, layer)
    decayed, free = (group["params"] for group in parameter_groups(module))
    assert [p.shape for p in decayed] == [LAYERS[layer]().weight.shape]
    assert all(p.numel() == module.weight.shape[0] for p in free)


# ---------------------------------------------------------------- in a backbone

TINY = {
    "unet": ["model=unet", "model.width=8", "model.embedding_dim=16", "model.num_heads=2"],
    "dit": ["model=dit", "model.dim=16", "model.depth=1", "model.num_heads=2", "model.embedding_dim=16"],
}
COMMON = (
    "trainer.gap_samples=16 "
    "trainer.accelerator=cpu trainer.num_threads=1 data.batch_size=8 trainer.val_samples=16 solver.images=1 "
    "solver.steps=2 trainer.max_steps=12 trainer.val_every=12 zero_output=false"
).split()


def tiny(*overrides: str, model: str = "dit"):
    return compose.compose([*TINY[model], *COMMON, *overrides]).cfg


@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("option", OPTIONS)
def test_what_it_draws_is_keyed_by_the_seed(option, model):
    states = []
    for noise, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(noise)
        states.append(prepare(tiny(f"weight_normalization={option}", f"seed={seed}", model=model)).state_dict())
    one, again, other = states
    assert all(torch.equal(one[name], again[name]) for name in one)
    drawn = [name for name in one if name.endswith((".original", ".original1", ".v")) or one[name].ndim > 1]
    differing = [name for name in drawn if "modulation" not in name and not name.endswith(("place", "original0"))]
    assert differing and not any(torch.equal(one[name], other[name]) for name in differing)


@pytest.mark.parametrize("initializer", ["torch_default", "orthogonal"])
@pytest.mark.parametrize("option", OPTIONS)
def test_training_is_finite_and_the_averages_follow_the_formula(option, initializer):
    """The averaged weights and what goes with them: evaluated, each layer has the weight that the formula gives.

    Within 8 %, since singular values that start equal (orthogonal) are told apart slowly by iteration.
    """
    cfg = tiny(
        f"weight_normalization={option}", f"initializer={initializer}", "optimizer.lr=0.01", "trainer.ema_decay=0.7"
    )
    result = train(cfg)
    assert result.outcome == "complete" and all(math.isfinite(value) for value in result.metrics.values())
    denoiser = prepare(cfg).denoiser
    denoiser.load_state_dict(result.weights)
    formula, parameters = formulas.find("weight_normalization", option), catalog.entry("weight_normalization", option)
    layers = [m for m in denoiser.eval().modules() if isinstance(m, nn.Linear | nn.Conv2d) and is_parametrized(m)]
    assert bool(layers) == (option != "none")
    for layer in layers:
        own = {name.split(".")[-1]: p.detach().double() for name, p in layer.named_parameters() if name != "bias"}
        wanted = formula(own, **parameters.parameters)
        assert (layer.weight - wanted).norm() < 0.08 * wanted.norm()


def test_layers_that_start_at_zero_are_left_out():
    """Also those of which one output channel does."""
    zeroed = prepare(tiny("weight_normalization=weight_norm", "initializer=zeros")).denoiser
    assert not any(is_parametrized(m) for m in zeroed.modules())
    module = prepare(tiny("weight_normalization=magnitude_preserving", "zero_output=true")).denoiser.backbone
    assert not is_parametrized(module.out) and is_parametrized(module.patch)
    assert all(p.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("forced", [True, False])
def test_magnitude_preserving_holds_the_length_only_where_it_is_forced(forced):
    torch.manual_seed(0)
    layer = catalog.build("weight_normalization", "magnitude_preserving", nn.Linear(6, 5), forced=forced)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    x, target = torch.randn(20, 6), torch.randn(20, 5)
    for _ in range(5):
        optimizer.zero_grad()
        (layer(x) - target).square().sum().backward()
        optimizer.step()
    layer(x)
    held = layer.parametrizations.weight.original.norm(dim=1)
    assert (held - 1).abs().max().lt(1e-3) == forced
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.ones(5), rtol=0, atol=1e-3)


def test_magnitude_preserving_keeps_the_variance():
    torch.manual_seed(0)
    layer = catalog.build("weight_normalization", "magnitude_preserving", nn.Linear(64, 512, bias=False))
    assert layer(torch.randn(4000, 64)).var().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(("scaled", "variance"), [(True, 1.0), (False, 64.0)])
def test_standardized_weights_gain_the_fan_in_unless_they_are_scaled(scaled, variance):
    torch.manual_seed(0)
    layer = nn.Linear(64, 512, bias=False)
    layer = catalog.build("weight_normalization", "weight_standardization", layer, scaled=scaled)
    assert layer(torch.randn(4000, 64)).var().item() == pytest.approx(variance, rel=0.02)


def test_spectral_norm_of_averages_is_not_above_one():
    """Where the largest singular vector turns, an average of unit vectors is short; only its direction counts."""
    torch.manual_seed(0)
    layer = catalog.build("weight_normalization", "spectral_norm", nn.Linear(8, 8).double()).eval()
    with torch.no_grad():
        layer.parametrizations.weight[0].v.mul_(0.3)
    for _ in range(3):
        assert torch.linalg.svdvals(layer.weight)[0] < 1.05


def test_weight_norm_starts_at_the_initialized_weight():
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    before = layer.weight.detach().clone()
    torch.testing.assert_close(catalog.build("weight_normalization", "weight_norm", layer).weight.detach(), before)

"""Every optimizer: its first updates against the formula in float64, weight decay, convolutions."""

import formulas
import pytest
import torch
from torch import nn

from denoise import catalog
from denoise.optimizer import parameter_groups

OPTIONS = catalog.options("optimizer")
STEPS = 3


def start(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and the curvature of a problem whose gradient is c w^3 / 3 + c w - 1."""
    torch.manual_seed(0)
    return torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64) + 0.5


def gradient(w: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
    return curvature * (w**3 / 3 + w) - 1


def run(optimizer: torch.optim.Optimizer, w: torch.Tensor, curvature: torch.Tensor, steps: int) -> list[torch.Tensor]:
    met = []
    for _ in range(steps):
        w.grad = gradient(w.detach(), curvature)
        optimizer.step()
        met.append(w.detach().clone())
    return met


@pytest.mark.parametrize("decay", [False, True], ids=["default", "decayed"])
@pytest.mark.parametrize("shape", [(6, 10), (7,), (4, 3, 3, 3)], ids=["matrix", "vector", "conv"])
@pytest.mark.parametrize("option", OPTIONS)
def test_first_updates_follow_the_formula(option, shape, decay):
    rule = formulas.find("optimizer", option)
    parameters = dict(catalog.entry("optimizer", option).parameters)
    given = {"weight_decay": 0.3} if decay and "weight_decay" in parameters else {}
    w, curvature = start(shape)
    wanted = rule.run(w.clone(), lambda v: gradient(v, curvature), STEPS, **{**parameters, **given})
    parameter = nn.Parameter(w.clone())
    met = run(catalog.build("optimizer", option, [parameter], **given), parameter, curvature, STEPS)
    for step, (before, now, formula) in enumerate(zip([w, *wanted], met, wanted, strict=False)):
        error = (now - formula).norm() / (formula - before).norm()
        assert error < rule.tolerance * (1 + step), f"{option}, update {step + 1}: off by {error:.2g} of the update"


@pytest.mark.parametrize("option", OPTIONS)
def test_searched_parameters_act(option):
    entry = catalog.entry("optimizer", option)
    for name, domain in entry.space.items():
        ends = []
        for value in (domain["low"], (domain["low"] + domain["high"]) / 2):
            w, curvature = start((6, 10))
            parameter = nn.Parameter(w)
            ends.append(
                run(catalog.build("optimizer", option, [parameter], **{name: value}), parameter, curvature, 3)[-1]
            )
        assert not torch.equal(*ends), f"{option}: {name} does nothing"


@pytest.mark.parametrize("option", OPTIONS)
def test_reduces_a_quadratic(option):
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(8, 8))
    curvature = torch.linspace(0.2, 1.0, 64).view(8, 8)
    optimizer = catalog.build("optimizer", option, [w])
    losses = []
    for _ in range(40):
        loss = (curvature * w.square()).sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.999 * losses[0]


@pytest.mark.parametrize("option", OPTIONS)
def test_decay_reaches_matrices_and_nothing_else(option):
    """With a gradient of zero only weight decay moves a weight."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
    )
    given = {"weight_decay": 0.5} if "weight_decay" in catalog.entry("optimizer", option).parameters else {}
    optimizer = catalog.build("optimizer", option, parameter_groups(model), **given)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
        p.data.add_(0.0)
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    decayed = {"0.weight", "3.parametrizations.weight.original1"}
    assert moved == (decayed if given else set())


def test_groups_hold_every_parameter_once():
    model = nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.LayerNorm(5), nn.Conv2d(5, 6, 1, bias=False))
    groups = parameter_groups(model)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]
    assert {p.ndim for p in groups[0]["params"]} == {2, 4} and {p.ndim for p in groups[1]["params"]} == {1}


@pytest.mark.parametrize("option", OPTIONS)
def test_channels_last_changes_nothing(option):
    rule = formulas.find("optimizer", option)
    torch.manual_seed(0)
    w, gradients = torch.randn(6, 4, 3, 3), torch.randn(3, 6, 4, 3, 3)
    ends = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        parameter = nn.Parameter(w.clone(memory_format=memory_format))
        optimizer = catalog.build("optimizer", option, [parameter])
        for g in gradients:
            parameter.grad = g.clone(memory_format=memory_format)
            optimizer.step()
        assert parameter.is_contiguous(memory_format=memory_format)
        ends.append(parameter.detach())
    scale = (ends[0] - w).norm()
    assert scale > 0 and (ends[0] - ends[1]).norm() / scale < max(1e-4, rule.tolerance)


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (8, 4, 3, 3)])
def test_update_of_muon_is_orthogonal_and_of_adams_size(shape):
    """Singular values near 1 (Jordan's iteration leaves 0.7 to 1.2), and 0.2 in the root mean square."""
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(shape))
    before = w.detach().clone()
    optimizer = catalog.build("optimizer", "muon", [w], lr=0.1, weight_decay=0.0)
    w.grad = torch.randn(shape)
    optimizer.step()
    update = ((before - w.detach()) / 0.1).flatten(1)
    singular = torch.linalg.svdvals(update) / (0.2 * max(update.shape) ** 0.5)
    assert 0.6 < singular.min() and singular.max() < 1.3
    assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.25)

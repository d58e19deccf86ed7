"""What torch asks of any Optimizer, of every option: groups, names, bad values, tensors for lr, missing gradients."""

import copy
import io
import pickle
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from hydra.utils import get_object
from torch import Tensor, nn

from denoise.config import catalog

OPTIONS = catalog.options("optimizer")
every = pytest.mark.parametrize("option", OPTIONS)
STEPS = 4


def make(option: str, params: Any, **given: Any) -> torch.optim.Optimizer:
    """The option's own class at the file's settings, so that its errors are its own."""
    entry = catalog.entry("optimizer", option)
    made: torch.optim.Optimizer = get_object(entry.target)(params, **{**entry.parameters, **given})
    if hasattr(made, "curvature"):
        made.curvature = curvature
    return made


def curvature(parameters: list[Tensor]) -> list[Tensor]:
    return [0.1 + p.detach().square() for p in parameters]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.PReLU(3), nn.Flatten(), nn.Linear(12, 2))


def learn(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> list[Tensor]:
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        net(torch.randn(5, 2, 4, 4)).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def equal(ones: Iterable[Tensor], others: Iterable[Tensor]) -> list[bool]:
    return [torch.equal(one, other) for one, other in zip(ones, others, strict=True)]


@every
def test_a_group_may_come_later(option: str) -> None:
    """Matrices and others; it has its own lr, but for prodigy's, and is updated from its first step on."""
    net = network()
    optimizer = make(option, list(net[0].parameters()))
    before = learn(net, optimizer)
    optimizer.add_param_group({"params": net[3].parameters(), "lr": 0.0})
    optimizer.add_param_group({"params": net[1].weight})
    after = learn(net, optimizer)
    assert equal(before, after) == [False, False, False, *[option != "prodigy"] * 2]


@every
def test_a_group_that_came_later_is_updated_as_one_of_the_start(option: str) -> None:
    """Its steps and its first step are its own. (Prodigy's distance is that of all groups together.)"""
    if option == "prodigy":
        pytest.skip("one distance for all groups")
    torch.manual_seed(0)
    start, gradients = [torch.randn(4, 6), torch.randn(5)], [[torch.randn(4, 6), torch.randn(5)] for _ in range(STEPS)]
    ends = []
    for late in (False, True):
        own = [nn.Parameter(w.clone()) for w in start]
        first = nn.Parameter(torch.randn(3, 3))
        optimizer = make(option, [first] if late else own)
        if late:
            first.grad = torch.randn(3, 3)
            for _ in range(10):
                optimizer.step()
            first.grad = None
            optimizer.add_param_group({"params": own})
        for step in gradients:
            for p, g in zip(own, step, strict=True):
                p.grad = g.clone()
            optimizer.step()
        ends.append([p.detach() for p in own])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other)


@every
def test_names_change_nothing_and_are_kept(option: str) -> None:
    plain, named, grouped = network(), network(), network()
    wanted = learn(plain, make(option, plain.parameters()))
    optimizer = make(option, named.named_parameters())
    assert all(equal(wanted, learn(named, optimizer)))
    names = [name for group in optimizer.param_groups for name in group["param_names"]]
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert {name: id(p) for name, p in named.named_parameters()} == dict(zip(names, held, strict=True))
    assert all(equal(wanted, learn(grouped, make(option, [{"params": grouped.named_parameters()}]))))


@every
def test_a_group_may_be_one_tensor(option: str) -> None:
    one, other = network(), network()
    wanted = learn(one, make(option, [{"params": [p]} for p in one.parameters()]))
    assert all(equal(wanted, learn(other, make(option, [{"params": p} for p in other.parameters()]))))


@every
def test_what_are_no_parameters_is_refused(option: str) -> None:
    p = nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(TypeError):
        make(option, p)
    with pytest.raises(TypeError):
        make(option, [{"params": {p}}])
    with pytest.raises(TypeError):
        make(option, ["weights"])
    with pytest.raises(ValueError, match="empty"):
        make(option, [])
    with pytest.raises(ValueError, match="more than one"):
        make(option, [{"params": [p]}, {"params": [p]}])
    with pytest.raises(ValueError, match="non-leaf"):
        make(option, [p * 2])


BAD = {
    "lr": [-1.0],
    "eps": [-1e-8],
    "weight_decay": [-0.1],
    "momentum": [-0.1],
    "betas": [(1.0, 0.9, 0.9), (0.9, 1.0, 0.9), (-0.1, 0.9, 0.9)],
    "rho": [1.1],
    "alpha": [-0.1],
}


@every
def test_settings_out_of_their_domain_are_refused(option: str) -> None:
    parameters = catalog.entry("optimizer", option).parameters
    tried = 0
    for name, value in ((name, value) for name, values in BAD.items() for value in values if name in parameters):
        given = parameters[name]
        bad = value[: len(given)] if name == "betas" else [None, value] if isinstance(given, list) else value
        with pytest.raises(ValueError):
            make(option, [nn.Parameter(torch.zeros(2, 3))], **{name: bad})
        tried += 1
    assert tried >= 2


@every
def test_a_tensor_for_lr_is_that_number_or_refused(option: str) -> None:
    one, other = network(), network()
    wanted = learn(one, make(option, one.parameters(), lr=0.01))
    try:
        optimizer = make(option, other.parameters(), lr=torch.tensor(0.01))
    except ValueError:
        return
    for mine, theirs in zip(learn(other, optimizer), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)
    with pytest.raises((ValueError, RuntimeError)):
        make(option, other.parameters(), lr=torch.tensor([0.01, 0.02]))


@every
def test_without_gradients_nothing_moves_and_the_next_step_is_the_first(option: str) -> None:
    plain, late = network(), network()
    wanted = learn(plain, make(option, plain.parameters()))
    optimizer = make(option, late.parameters())
    start = [p.detach().clone() for p in late.parameters()]
    optimizer.step()
    assert all(equal(start, late.parameters()))
    late[1].weight.grad = torch.zeros(3)
    optimizer.zero_grad()
    optimizer.step()
    assert all(equal(start, late.parameters()))
    for mine, theirs in zip(learn(late, optimizer), wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


@every
def test_parameters_without_a_gradient_stay(option: str) -> None:
    net = network()
    net[3].requires_grad_(False)
    before = [p.detach().clone() for p in net.parameters()]
    assert equal(before, learn(net, make(option, net.parameters()))) == [False, False, False, True, True]
    net[3].requires_grad_(True)


@every
def test_a_copy_goes_on_alike(option: str) -> None:
    """Deep copies, with the network, and pickles."""
    net = network()
    optimizer = make(option, net.parameters())
    learn(net, optimizer)
    for copied, again in (copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps((net, optimizer)))):
        if hasattr(again, "curvature"):
            again.curvature = curvature
        mine = copy.deepcopy((net, optimizer))
        if hasattr(mine[1], "curvature"):
            mine[1].curvature = curvature
        assert all(equal(learn(copied, again), learn(*mine)))


@every
def test_a_closure_is_called_with_gradients_and_its_loss_returned(option: str) -> None:
    w = nn.Parameter(torch.ones(3, 3))
    optimizer = make(option, [w])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    optimizer.step(closure)
    assert not torch.equal(w.detach(), torch.ones(3, 3))


@every
def test_a_state_that_was_saved_with_names_is_loaded(option: str) -> None:
    one, other = network(), network()
    optimizer = make(option, one.named_parameters())
    learn(one, optimizer)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = make(option, other.named_parameters())
    again.load_state_dict(torch.load(file, weights_only=True))
    other.load_state_dict(one.state_dict())
    assert all(equal(learn(one, optimizer), learn(other, again)))

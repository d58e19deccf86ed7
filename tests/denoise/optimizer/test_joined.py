"""Parameters as one tensor: the same training, for every optimizer that says it treats each number by itself."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.optimizer import joined, parameter_groups
from denoise.training.train import prepare, train
from search.trial.config_hash import config_sha256

OPTIONS = catalog.options("optimizer")
ELEMENTWISE = [o for o in OPTIONS if compose([f"optimizer={o}"]).cfg.optimizer.get("elementwise")]
TINY = ["model.width=8", "model.num_heads=2", "model.embedding_dim=12", "data.batch_size=8", "trainer.num_threads=1"]


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.PReLU(5), nn.Conv2d(5, 4, 2, bias=False), nn.Flatten(), nn.Linear(36, 3))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def make(option: str, groups: Any) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = catalog.build("optimizer", option, groups)
    return made


def learn(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[Tensor]:
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        net(torch.randn(7, 3, 6, 6)).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def test_most_optimizers_are_elementwise_and_the_default_is() -> None:
    matrices = {"adafactor", "lamb", "muon", "prodigy", "shampoo", "soap", "sophia"}
    assert set(OPTIONS) - set(ELEMENTWISE) == matrices


@pytest.mark.parametrize("option", ELEMENTWISE)
def test_learns_what_separate_parameters_learn(option: str) -> None:
    apart = network()
    together = copy.deepcopy(apart)
    expected = learn(apart, make(option, parameter_groups(apart)), 12)
    optimizer = joined(lambda groups: make(option, groups), parameter_groups(together))
    found = learn(together, optimizer, 12)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    for mine, theirs, was in zip(found, expected, network().parameters(), strict=True):
        assert not torch.equal(mine, was)
        torch.testing.assert_close(mine, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("option", ["muon", "lamb", "adafactor", "shampoo"])
def test_where_a_tensor_counts_as_a_whole_it_would_be_another_optimizer(option: str) -> None:
    apart = network()
    together = copy.deepcopy(apart)
    expected = learn(apart, make(option, parameter_groups(apart)), 3)
    groups = [{**group, "matrices": False} for group in parameter_groups(together)]
    found = learn(together, joined(lambda given: make(option, given), groups), 3)
    assert any(not torch.allclose(m, t, rtol=1e-4) for m, t in zip(found, expected, strict=True))


def test_parts_keep_their_values_and_their_format_and_begin_with_a_cache_line() -> None:
    net, was = network(), network()
    joined(lambda groups: torch.optim.SGD(groups, lr=0.1), parameter_groups(net))
    for mine, theirs in zip(net.parameters(), was.parameters(), strict=True):
        assert torch.equal(mine, theirs) and mine.stride() == theirs.stride()
        assert mine.grad is not None and mine.grad.stride() == mine.stride() and not mine.grad.any()
        assert mine.storage_offset() % 16 == mine.grad.storage_offset() % 16 == 0


def test_gradients_that_were_dropped_are_taken_up_again() -> None:
    net = network()
    optimizer = joined(lambda groups: torch.optim.SGD(groups, lr=0.1), parameter_groups(net))
    before = learn(net, optimizer, 1)
    net.zero_grad()
    assert all(not torch.equal(a, b) for a, b in zip(before, learn(net, optimizer, 1), strict=True))


def test_a_parameter_that_moved_is_told_of() -> None:
    net = network()
    optimizer = joined(lambda groups: torch.optim.SGD(groups, lr=0.1), parameter_groups(net))
    net.double()
    with pytest.raises(RuntimeError, match="make the optimizer anew"):
        optimizer.zero_grad()
    learn(net, joined(lambda groups: torch.optim.SGD(groups, lr=0.1), parameter_groups(net)), 0)


def test_numbers_of_several_kinds_are_several_tensors() -> None:
    net = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2).double(), nn.Linear(2, 4)])
    optimizer = joined(lambda groups: torch.optim.SGD(groups, lr=0.1), parameter_groups(net))
    kinds = [[p.dtype for p in group["params"]] for group in optimizer.param_groups]
    assert kinds == [[torch.float32, torch.float64]] * 2


def test_a_loaded_state_reaches_the_optimizers_tensor() -> None:
    """As a resumed training does it: weights are copied into their parts."""
    net, other = network(), network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3)
    optimizer = joined(lambda groups: torch.optim.SGD(groups, lr=0.0), parameter_groups(net))
    net.load_state_dict(other.state_dict())
    optimizer.step()
    total = sum(float(p.detach().sum()) for group in optimizer.param_groups for p in group["params"])
    assert total == pytest.approx(sum(float(p.detach().sum()) for p in other.parameters()), rel=1e-5)


@pytest.mark.parametrize("option", ["adamw", "muon"])
def test_a_training_joins_what_it_may(option: str) -> None:
    module = prepare(compose([*TINY, f"optimizer={option}", "trainer.max_steps=2"]).cfg)
    optimizer = module.configure_optimizers()["optimizer"]
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert (count == 2) == (option == "adamw")


@pytest.mark.parametrize("clip", ["norm", "value"])
def test_a_training_ends_as_with_separate_parameters(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [
        "optimizer=momentum",
        "trainer.max_steps=5",
        "trainer.val_every=5",
        "trainer.gradient_clip=0.05",
        f"trainer.gradient_clip_by={clip}",
    ]
    cfg = compose([*TINY, *more]).cfg
    together = train(cfg)
    monkeypatch.setattr("denoise.training.trainable.joined", lambda make, groups: make(groups))
    apart = train(cfg)
    for name, tensor in together.weights.items():
        torch.testing.assert_close(tensor, apart.weights[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=lion", "+optimizer.cautious=true"],
        ["optimizer=adan", "+optimizer.use_gc=true"],
        ["optimizer=lamb", "+optimizer.elementwise=true"],
        ["optimizer.elementwise=false"],
    ],
    ids=" ".join,
)
def test_what_the_file_does_not_vouch_for_is_not_joined(overrides: list[str]) -> None:
    assert catalog.elementwise(compose([]).cfg.optimizer)
    assert not catalog.elementwise(compose(overrides).cfg.optimizer)


def test_whether_parameters_are_joined_is_part_of_a_configs_hash() -> None:
    one, other = (config_sha256(compose(overrides)) for overrides in ([], ["optimizer.elementwise=false"]))
    assert one != other


@pytest.mark.parametrize(("kind", "value"), [("optimizer", '"false"'), ("optimizer", "1"), ("activation", "true")])
def test_a_file_says_it_as_it_is_meant(kind: str, value: str, tmp_path: Path) -> None:
    target = {"optimizer": "torch.optim.SGD", "activation": "torch.nn.SiLU"}[kind]
    content = yaml.safe_load(f"_target_: {target}\nelementwise: {value}\n")
    with pytest.raises(UserError, match="true or false, in the file of an optimizer"):
        catalog.check_form(tmp_path / kind / "mine.yaml", content)


def test_an_optimizer_that_asks_for_the_curvature_is_refused() -> None:
    with pytest.raises(UserError, match="not elementwise"):
        joined(lambda groups: make("sophia", groups), parameter_groups(network()))

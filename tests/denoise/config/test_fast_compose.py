"""Composing without Hydra gives what Hydra gives, and leaves to Hydra what it cannot do."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from benchmarks.filling import asked
from denoise.config import catalog
from denoise.config import compose as config
from denoise.config.compose import Composed, as_yaml, compose, next_compose, raw_compose
from denoise.errors import UserError
from search.space import search_space
from search.study import spec

optuna.logging.set_verbosity(optuna.logging.ERROR)
SEARCHES = {
    "whole": (),
    "controls and own values": ("search.controls=true", "optimizer.eps=1e-7", "activation=leaky_relu", "model=dit"),
    "moved domain": ("optimizer.space.lr.high=0.5", "optimizer.space.lr.low=0.0001"),
    "parts and free domains": (
        "activation@parts.transformer.activation=gelu",
        "parts.residual.placement=post",
        "+search.domains.dropout={type:float,low:0.0,high:0.3}",
        "+search.domains.placement={type:categorical,choices:[pre,post,sandwich]}",
    ),
    "some kinds": ("~search.kinds.optimizer", "optimizer=lion", "optimizer.lr=1e-3", "data=fashion_mnist"),
}


def same(found: Composed, expected: Composed) -> bool:
    def plain(composed: Composed) -> Any:
        return OmegaConf.to_yaml(composed.cfg)  # with the order of the keys and the type of each number

    return plain(found) == plain(expected) and found.choices == expected.choices


def draws(number: int, *overrides: str) -> list[tuple[str, ...]]:
    found = search_space.build(compose(overrides, "search"), overrides)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=len(overrides)))
    return [tuple(found.suggest(asked(study.ask()))) for _ in range(number)]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_trial_composes_as_hydra_composes_it(name: str) -> None:
    for overrides in draws(4, *SEARCHES[name]):
        found, expected = next_compose(overrides), raw_compose(overrides)
        assert same(found, expected), overrides
        assert OmegaConf.is_struct(found.cfg) == OmegaConf.is_struct(expected.cfg)


@pytest.mark.components
def test_every_option_composes_as_hydra_composes_it() -> None:
    """The k-th option of every kind together, for each k; of Hydra's own each takes a quarter of a second."""
    options = {kind: catalog.options(kind) for kind in catalog.KINDS}
    for k in range(max(map(len, options.values()))):
        overrides = tuple(f"{kind}={names[k % len(names)]}" for kind, names in options.items())
        assert same(next_compose(overrides), raw_compose(overrides)), overrides


TYPED = [
    *("activation=relu", "activation=leaky_relu", "activation='relu'", "activation=nothing", "optimizer=lion"),
    *(
        "optimizer.lr=0.5",
        "optimizer.lr=1e-3",
        "optimizer.lr=1_000",
        "optimizer.lr=007",
        "optimizer.lr=.5",
        "optimizer.lr=word",
    ),
    *("optimizer.lr=null", "optimizer.lr=", "optimizer.lr='0.5'", "optimizer.lr=${dropout}", "optimizer.lr=[1,2]"),
    *(
        "optimizer.betas=[0.8,0.9]",
        "optimizer.betas.0=0.8",
        "optimizer.betas.1=0.999",
        "+optimizer.new=1",
        "++optimizer.lr=0.25",
        "~optimizer.lr",
    ),
    *(
        "optimizer.space.lr.high=0.5",
        "optimizer.space={}",
        "activation.negative_slope=0.3",
        "dropout=0.25",
        "model=dit",
    ),
    *("model.width=16", "trainer.max_steps=7", "activation@parts.transformer.activation=gelu", "initializer.gain=auto"),
    *(
        "seed=3",
        "seed",
        "seed=",
        "seed=???",
        "seed = 4",
        "seed=[1,{a: 2}]",
        "store='/a(b)=c'",
        "store=/a(b)=c",
        "a.b=1",
    ),
    *(
        "model.channel_mult=[1,1]",
        "model.channel_mult=3",
        "model={}",
        "~model",
        "data=fashion_mnist",
        "hydra.verbose=1",
    ),
    *(
        "parts.residual={placement: post}",
        "parts.residual.placement=post",
        "+parts.residual.new=1",
        "~trainer.max_steps",
    ),
    *("search.n_trials=3", "search.enqueue=[['activation=relu']]", "search.kinds.activation=[relu]", "search.kinds={}"),
    *(
        "~search.kinds.activation",
        "+search.domains.dropout={type:float,low:0.0,high:0.3}",
        "search.domains.dropout.low=1",
    ),
]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(TYPED), max_size=4), st.sampled_from(["train", "search"]))
def test_what_a_person_types_composes_as_hydra_composes_it(overrides: list[str], root: str) -> None:
    """In any order, twice, or wrong: the same config, or the same refusal."""

    def outcome(way: Any) -> Any:
        try:
            found = way(tuple(overrides), root)
            return OmegaConf.to_yaml(found.cfg), found.choices
        except UserError as error:
            return str(error)

    assert outcome(next_compose) == outcome(raw_compose)


def hydra_calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    compose_ = config.hydra_compose
    monkeypatch.setattr(config, "hydra_compose", lambda *a, **k: calls.append(a) or compose_(*a, **k))
    config._compose.cache_clear()
    config._base.cache_clear()
    return calls


def test_hydra_composes_once_for_many_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = draws(20)
    calls = hydra_calls(monkeypatch)
    for overrides in trials:
        next_compose(overrides)
    assert len(calls) == 1


def test_what_one_does_to_a_config_is_not_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    first = next_compose(("optimizer=lion", "optimizer.lr=0.5"))
    first.cfg.optimizer.lr, first.cfg.trainer.max_steps = 7.0, 3
    first.choices["optimizer"] = "sgd"
    assert same(next_compose(("optimizer=lion",)), raw_compose(("optimizer=lion",)))


OTHERS = {
    "a defaults list": "# f\n# s\ndefaults: [relu]\n_target_: torch.nn.ReLU\nspace: {}\n",
    "an interpolation": "# f\n# s\n_target_: torch.nn.ELU\nalpha: ${dropout}\nspace: {}\n",
}


@pytest.mark.parametrize("what", OTHERS)
def test_files_that_are_more_than_their_node_are_hydras(what: str, tmp_path: Path) -> None:
    (tmp_path / "activation").mkdir()
    (tmp_path / "activation" / "mine.yaml").write_text(OTHERS[what])
    catalog._folders.insert(0, tmp_path)
    for overrides in [("activation=mine",), ("activation=mine", "dropout=0.25"), ("activation=silu", "dropout=0.25")]:
        assert same(next_compose(overrides), raw_compose(overrides)), overrides


def test_an_experiment_that_sets_a_component_is_hydras(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [{override /optimizer: lion}]\noptimizer: {lr: 0.125}\n"
    )
    catalog._folders.insert(0, tmp_path)
    for more in [(), ("optimizer=lion",), ("optimizer=adamw",), ("optimizer.lr=0.5",), ("activation=relu",)]:
        overrides = ("experiment=mine", *more)
        assert same(next_compose(overrides), raw_compose(overrides)), overrides


def test_a_root_config_of_ones_own_that_sets_a_component_is_hydras(tmp_path: Path) -> None:
    """Even where it sets what the option's file says anyway: another option then has it too."""
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\noptimizer: {lr: 0.002}\n")
    catalog._folders.insert(0, tmp_path)
    for overrides in [("optimizer=lion",), ("optimizer=adamw",), ("optimizer.lr=0.5",), ("activation=relu",)]:
        assert same(next_compose(overrides, "mine"), raw_compose(overrides, "mine")), overrides


def test_plain_data_is_written_as_omegaconf_writes_it() -> None:
    plain = OmegaConf.to_container(raw_compose(()).cfg, resolve=True)
    plain["words"] = ["1e-5", "null", "yes", "3", "", "a: b", "two\nlines", None, True, 1e-5, 12, 1.0, "ä"]
    assert as_yaml(plain) == OmegaConf.to_yaml(OmegaConf.create(plain))


def test_a_search_begins_with_one_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options' own values, the config and its known starts are all made of it."""
    calls = hydra_calls(monkeypatch)
    spec.prepare(["trainer.max_steps=40", "optimizer=muon", "optimizer.lr=0.02"])
    assert len(calls) == 1
    spec.prepare(["trainer.max_steps=40", "optimizer=muon", "optimizer.lr=0.02"])
    assert len(calls) == 1

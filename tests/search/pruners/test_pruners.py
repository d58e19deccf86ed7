"""Every pruner of conf/pruner: it stops the bad, the same search twice and after kills stops the same trials."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from omegaconf import OmegaConf
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from denoise.config import catalog
from denoise.config.catalog import CONF
from denoise.config.compose import compose
from denoise.errors import UserError
from search.pruners import decision
from search.storages.trials import Trials
from search.study import loop
from tests import studies
from tests.quick import CHOICES, SMALL, Killed, a_new_process, run

pytestmark = pytest.mark.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def everyone(trials: Any, trial: Any) -> list[Any]:
    """All trials are compared."""
    return list(trials)


PRUNERS = sorted(path.stem for path in (CONF / "pruner").glob("*.yaml"))
MORE = {
    "median": ["pruner.n_startup_trials=2"],
    "wilcoxon": ["pruner.p_threshold=0.2", "pruner.n_startup_steps=3"],
    "hyperband": ["pruner.reduction_factor=2"],
}
STEPS = 8


def pruner(name: str) -> BasePruner:
    """The pruner as a search config builds it, for curves of eight points."""
    return catalog.call(node(name), kind="pruner")


@cache
def node(name: str) -> Any:
    """Its node in the composed config."""
    return compose([f"pruner={name}", *MORE.get(name, []), *SMALL[:2]], "search").cfg.pruner


def curves(number: int) -> np.ndarray:
    """Falling learning curves: level + slope / step, each its own."""
    generator = np.random.default_rng(0)
    level, slope = generator.random((number, 1)), 0.3 * generator.random((number, 1))
    return level + slope / np.arange(1, STEPS + 1)


def train(study: Trials, by: BasePruner, curve: np.ndarray) -> int:
    """One trial as the search runs it: its number."""
    number = studies.begin(study)
    for step in range(1, STEPS + 1):
        study.report(number, step, float(curve[step - 1]))
        if step < STEPS and decision.should_stop(study, by, number, everyone):
            study.end(number, TrialState.PRUNED)
            return number
    study.end(number, TrialState.COMPLETE, [float(curve[-1])])
    return number


def study_of(name: str, number: int = 24) -> Trials:
    study, by = studies.new(), pruner(name)
    for curve in curves(number):
        train(study, by, curve)
    return study


@pytest.mark.parametrize("name", PRUNERS)
def test_decisions_are_optunas_own(name: str) -> None:
    """One trial after another, each pruner decides as in a study of Optuna's that reports to it directly."""
    theirs, by = optuna.create_study(study_name="s", pruner=pruner(name)), pruner(name)
    ours = studies.new("s")
    for curve in curves(24):
        number, trial = train(ours, by, curve), theirs.ask()
        for step in range(1, STEPS + 1):
            trial.report(float(curve[step - 1]), step)
            if step < STEPS and trial.should_prune():
                theirs.tell(trial, state=TrialState.PRUNED)
                break
        else:
            theirs.tell(trial, float(curve[-1]))
        mine = ours.trial(number)
        assert mine.intermediate_values == theirs.trials[-1].intermediate_values, number
        assert mine.system_attrs == theirs.trials[-1].system_attrs


@pytest.mark.parametrize("name", PRUNERS)
def test_what_is_stopped_is_worse_than_what_is_not(name: str) -> None:
    trials = study_of(name).trials
    stopped = [t.number for t in trials if t.state == TrialState.PRUNED]
    ends = curves(24)[:, -1]
    if name == "none":
        assert stopped == []
        return
    assert 2 <= len(stopped) <= 22
    whole = [t.number for t in trials if t.state == TrialState.COMPLETE]
    assert np.median(ends[whole]) < np.median(ends[stopped])
    assert int(np.argmin(ends)) in whole, "the best was stopped"


@pytest.mark.faults
@pytest.mark.parametrize("name", PRUNERS)
def test_a_decision_that_a_kill_cut_off_is_taken_again(name: str) -> None:
    """At every report of every trial, by a new pruner: it is what was decided, and it is written the same."""
    study, by = studies.new(), pruner(name)
    stopped = 0
    for curve in curves(24):
        number = studies.begin(study)
        for step in range(1, STEPS + 1):
            study.report(number, step, float(curve[step - 1]))
            decided = decision.should_stop(study, by, number, everyone)
            noted = study.trial(number).system_attrs
            found = decision.should_stop(study, pruner(name), number, everyone, again=True)
            assert found == decided, f"trial {number}, step {step}"
            assert study.trial(number).system_attrs == noted
            if decided and step < STEPS:
                study.end(number, TrialState.PRUNED)
                stopped += 1
                break
        else:
            study.end(number, TrialState.COMPLETE, [float(curve[-1])])
    assert stopped or name == "none"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")


@pytest.mark.faults
@pytest.mark.parametrize("name", PRUNERS)
def test_a_search_with_kills_stops_the_trials_that_one_without_does(
    name: str, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when a trial is about to be stopped, and right after a report."""
    wanted = [f"pruner={name}", *MORE.get(name, []), "search.n_trials=9", "sampler=random", *CHOICES]
    wanted.append(f"seed={PRUNERS.index(name)}")  # in one store, what was trained in another search is not again
    whole, _ = run(stores[0], wanted, monkeypatch)
    states = {state for _, state, _ in whole}
    assert states == ({"COMPLETE"} if name == "none" else {"COMPLETE", "PRUNED"})
    decide, report = decision.should_stop, Trials.report
    calls: list[Any] = []

    def about_to_stop(*args: Any) -> bool:
        if decide(*args):
            raise Killed
        return False

    def reported(*args: Any) -> None:
        report(*args)
        calls.append(args)
        if len(calls) == 7:
            raise Killed

    places = [(decision, "should_stop", about_to_stop), (Trials, "report", reported)]
    for life, (owner, method, dying) in enumerate(places):
        if name == "none" and method == "should_stop":
            continue
        with monkeypatch.context() as patched:
            a_new_process(patched, life)
            patched.setattr(owner, method, dying)
            with pytest.raises(Killed):
                run(stores[1], wanted, patched)
    a_new_process(monkeypatch, 99)
    after, _ = run(stores[1], wanted, monkeypatch)
    assert after == whole


def test_wilcoxon_stops_who_lies_above_the_best_at_four_evaluations_and_no_earlier() -> None:
    study, by = (
        studies.new(),
        catalog.call(OmegaConf.merge(node("wilcoxon"), {"p_threshold": 0.1, "n_startup_steps": 2}), kind="pruner"),
    )
    train(study, by, np.full(STEPS, 0.1))
    study.add_trial(optuna.trial.create_trial(value=0.05))  # a repeated trial: better, and without a curve
    number = train(study, by, np.full(STEPS, 0.2) + np.arange(STEPS) / 100)
    assert max(study.trial(number).intermediate_values) == 4
    assert study.trial(number).state == TrialState.PRUNED


REFUSED = [
    (["pruner=hyperband", "pruner.min_resource=100", "pruner.max_resource=10"], ["max_resource=10", "100"]),
    (["pruner=hyperband", "pruner.reduction_factor=1"], ["pruner.reduction_factor=1", "2"]),
    (["pruner=wilcoxon", "pruner.p_threshold=2.0"], ["pruner.p_threshold=2.0", "1"]),
    (["pruner=median", "pruner.interval_steps=0"], ["pruner.interval_steps=0", "1"]),
    (["pruner=median", "+pruner.percentile=3"], ["pruner", "percentile"]),
]


@pytest.mark.parametrize(("given_", "said"), REFUSED)
def test_a_pruner_refuses_what_it_cannot_do(given_: list[str], said: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        loop.prepare([f"store={tmp_path / 'runs'}", *SMALL, *CHOICES, *given_])
    assert "\n" not in str(refused.value) and all(word in str(refused.value) for word in said), refused.value
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["sampler", "pruner"])
def test_an_option_file_says_what_it_does_and_where_it_comes_from(kind: str) -> None:
    for path in sorted((CONF / kind).glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert all(line.startswith("# ") and len(line) > 10 for line in lines[:2]), path.name
        node = compose([f"{kind}={path.stem}"], "search").cfg[kind]
        numbers = [n for n, v in node.items() if isinstance(v, int | float) and not isinstance(v, bool)]
        assert set(numbers) <= set(node.get("limits") or {}), f"{path.name}: a number without limits"

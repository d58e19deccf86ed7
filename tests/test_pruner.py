"""Every pruner of conf/pruner: it stops the bad, the same search twice and after kills stops the same trials."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import TrialState

from denoise.config import catalog
from denoise.config.catalog import CONF
from denoise.config.compose import compose
from denoise.errors import Refusal
from search.pruners import decision
from search.pruners.hyperband import Hyperband
from search.pruners.wilcoxon import Wilcoxon
from search.study import loop
from tests.quick import CHOICES, SMALL, Killed, a_new_process, run

pytestmark = pytest.mark.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def whole_study(study: optuna.Study, trial: Any) -> optuna.Study:
    """All trials are compared."""
    return study


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


def train(study: optuna.Study, curve: np.ndarray, begin: int = 1) -> optuna.Trial:
    """One trial as the search runs it."""
    trial = study.ask()
    for step in range(begin, STEPS + 1):
        trial.report(float(curve[step - 1]), step)
        if step < STEPS and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return trial
    study.tell(trial, float(curve[-1]))
    return trial


def study_of(name: str, number: int = 24) -> optuna.Study:
    study = optuna.create_study(study_name="s", pruner=pruner(name))
    for curve in curves(number):
        train(study, curve)
    return study


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
    """At every report of every trial: what is decided again is what was decided, and it is written the same."""
    study = optuna.create_study(study_name="s", pruner=pruner(name))
    stopped = 0
    for curve in curves(24):
        trial = study.ask()
        for step in range(1, STEPS + 1):
            trial.report(float(curve[step - 1]), step)
            decided = trial.should_prune()
            noted = study._storage.get_trial(trial._trial_id).system_attrs
            again = optuna.trial.Trial(study, trial._trial_id)
            found = decision.should_stop(study, again, whole_study, again=True)
            assert found == decided, f"trial {trial.number}, step {step}"
            assert study._storage.get_trial(trial._trial_id).system_attrs == noted
            if decided and step < STEPS:
                study.tell(trial, state=TrialState.PRUNED)
                stopped += 1
                break
        else:
            study.tell(trial, float(curve[-1]))
    assert stopped or name == "none"


@pytest.mark.faults
@pytest.mark.parametrize("name", PRUNERS)
def test_a_decision_before_which_a_kill_came_is_the_one_that_would_have_been_taken(name: str) -> None:
    """Killed between the report and the decision: in a new process, with a new pruner, it is decided as it would be."""
    first, second = (optuna.create_study(study_name="s", pruner=pruner(name)) for _ in range(2))
    for curve in curves(24):
        done = train(first, curve)
        trial = second.ask()
        for step in range(1, STEPS + 1):
            trial.report(float(curve[step - 1]), step)
            second.pruner = pruner(name)
            again = optuna.trial.Trial(second, trial._trial_id)
            if decision.should_stop(second, again, whole_study, again=True) and step < STEPS:
                second.tell(trial, state=TrialState.PRUNED)
                break
        else:
            second.tell(trial, float(curve[-1]))
        assert second.trials[-1].intermediate_values == first.trials[done.number].intermediate_values


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
    decide, report = decision.should_stop, _CachedStorage.set_trial_intermediate_value
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

    places = [(decision, "should_stop", about_to_stop), (_CachedStorage, "set_trial_intermediate_value", reported)]
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


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 6), st.integers(2, 4), st.text("abc", min_size=1, max_size=5))
def test_hyperband_has_optunas_brackets_in_every_process(low: int, more: int, eta: int, name: str) -> None:
    """Optuna's own, once it has found them out, as reference; and each is successive halving among its own trials."""
    high = low * eta**more
    theirs = optuna.pruners.HyperbandPruner(low, high, eta)
    study = optuna.create_study(study_name=name, pruner=theirs)
    theirs.prune(study, study._storage.get_trial(study.ask()._trial_id))
    ours = Hyperband(min_resource=low, max_resource=high, reduction_factor=eta)
    for trial in [study.ask() for _ in range(20)]:
        frozen = study._storage.get_trial(trial._trial_id)
        assert ours.bracket(study, frozen) == theirs._get_bracket_id(study, frozen)
    assert {ours.bracket(study, trial) for trial in study.trials} <= set(range(more + 1))


def test_a_bracket_of_hyperband_is_successive_halving_among_its_trials() -> None:
    study = study_of("hyperband", 60)
    ours: Any = study.pruner
    brackets = {ours.bracket(study, trial) for trial in study.trials}
    assert len(brackets) > 2
    for bracket in brackets:
        mine = [trial for trial in study.trials if ours.bracket(study, trial) == bracket]
        alone = optuna.create_study(
            pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=2, min_early_stopping_rate=bracket)
        )
        for trial in mine:
            train(alone, curves(60)[trial.number])
        assert [t.intermediate_values for t in alone.trials] == [t.intermediate_values for t in mine]


def test_the_sampler_sees_the_same_trials_with_hyperband_before_and_after_its_first_report() -> None:
    """Optuna's own gives samplers another study from its first decision on, in each process anew."""
    seen: list[list[int]] = []

    class Watching(optuna.samplers.RandomSampler):
        def sample_independent(self, study: Any, trial: Any, name: str, domain: Any) -> Any:
            seen.append([t.number for t in study.get_trials(deepcopy=False)])
            return super().sample_independent(study, trial, name, domain)

    study = optuna.create_study(study_name="s", pruner=pruner("hyperband"), sampler=Watching(seed=0))
    for _ in range(2):
        study.ask().suggest_float("x", 0, 1)
        trial = study.ask()
        trial.report(0.5, 1)
        trial.should_prune()
    assert seen == [[0], [0, 1, 2]]


def test_wilcoxon_stops_who_lies_above_the_best_at_four_evaluations_and_no_earlier() -> None:
    study = optuna.create_study(pruner=Wilcoxon(p_threshold=0.1, n_startup_steps=2))
    train(study, np.full(STEPS, 0.1))
    study.add_trial(optuna.trial.create_trial(value=0.05))  # a repeated trial: better, and without a curve
    trial = train(study, np.full(STEPS, 0.2) + np.arange(STEPS) / 100)
    assert max(study.trials[trial.number].intermediate_values) == 4
    assert study.trials[trial.number].state == TrialState.PRUNED


REFUSED = [
    (["pruner=hyperband", "pruner.min_resource=100", "pruner.max_resource=10"], ["max_resource=10", "100"]),
    (["pruner=hyperband", "pruner.reduction_factor=1"], ["pruner.reduction_factor=1", "2"]),
    (["pruner=wilcoxon", "pruner.p_threshold=2.0"], ["pruner.p_threshold=2.0", "1"]),
    (["pruner=median", "pruner.interval_steps=0"], ["pruner.interval_steps=0", "1"]),
    (["pruner=median", "+pruner.percentile=3"], ["pruner", "percentile"]),
]


@pytest.mark.parametrize(("given_", "said"), REFUSED)
def test_a_pruner_refuses_what_it_cannot_do(given_: list[str], said: list[str], tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
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

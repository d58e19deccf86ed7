"""A snapshot: what samplers and pruners see of it is what they see of a study of these trials alone."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import BruteForceSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.storages.snapshot import Snapshot, seen

optuna.logging.set_verbosity(optuna.logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]


def finished(x: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    return create_trial(
        params={"x": x},
        distributions={"x": FloatDistribution(0.0, 1.0)},
        value=None if state == TrialState.FAIL else (x - 0.3) ** 2,
        intermediate_values={1: x, 2: x / 2},
        system_attrs={"completed_rung_0": x},
        state=state,
    )


def filled(trials: list[FrozenTrial]) -> optuna.Study:
    study = optuna.create_study(study_name="s")
    study.add_trials(trials)
    return study


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(STATES), st.booleans()), max_size=12))
def test_a_snapshot_reads_as_a_study_of_its_trials(rows: list[tuple[float, TrialState, bool]]) -> None:
    whole = filled([finished(x, state) for x, state, _ in rows])
    expected = [trial for trial in whole.trials if rows[trial.number][2]]
    snapshot = Snapshot(expected)
    assert snapshot.trials == expected == snapshot.get_trials(deepcopy=False)
    for states in [(TrialState.COMPLETE,), (TrialState.PRUNED, TrialState.FAIL)]:
        assert snapshot.get_trials(states=states) == [trial for trial in expected if trial.state in states]
    complete = [trial for trial in expected if trial.state == TrialState.COMPLETE]
    if complete:
        assert snapshot.best_trial.value == min(trial.value or 0.0 for trial in complete)
    else:
        with pytest.raises(ValueError, match="No trials"):
            _ = snapshot.best_trial


def test_a_snapshot_of_several_objectives_ranks_curves_by_the_first() -> None:
    both = [StudyDirection.MINIMIZE, StudyDirection.MINIMIZE]
    trials = filled([]).trials + [seen(create_trial(values=[float(n), -float(n)])) for n in range(3)]
    snapshot = Snapshot(trials, both)
    assert snapshot.directions == both and snapshot.direction == StudyDirection.MINIMIZE
    assert len(snapshot.best_trials) == 3


def test_what_is_noted_is_kept_aside_and_all_else_is_refused() -> None:
    study = filled([finished(0.5)])
    snapshot = Snapshot([seen(trial) for trial in study.trials], name="s", study_attrs={"points": 1})
    snapshot.storage.set_trial_system_attr(0, "generation", 3)
    snapshot.storage.set_study_system_attr(0, "points", 2)
    assert snapshot.noted == {"generation": 3} and snapshot.study_attrs == {"points": 2}
    assert "generation" not in study.trials[0].system_attrs
    for write in (lambda: snapshot.set_user_attr("a", 1), snapshot.ask, lambda: snapshot.add_trial(finished(0.1))):
        with pytest.raises(RuntimeError, match="not written"):
            write()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(STATES), st.booleans(), st.booleans())
def test_a_trial_is_seen_as_it_is_but_for_what_is_given(state: TrialState, running: bool, cut: bool) -> None:
    trial = filled([finished(0.5, state)]).trials[0]
    given_ = {"state": TrialState.RUNNING} if running else {}
    shown = seen(trial, **given_, curve={1: 0.5} if cut else None)
    assert shown.state == (TrialState.RUNNING if running else state)
    assert shown.intermediate_values == ({1: 0.5} if cut else trial.intermediate_values)
    assert (shown.params, shown.distributions) == (trial.params, trial.distributions)
    assert shown.values == (None if running else trial.values)


def test_a_sampler_draws_from_a_snapshot_as_from_a_study_of_these_trials_alone() -> None:
    trials = filled([finished(n / 20) for n in range(20)]).trials
    domain, running = FloatDistribution(0.0, 1.0), create_trial(state=TrialState.RUNNING)
    running.number = 99
    drawn = [
        TPESampler(seed=1, n_startup_trials=3).sample_independent(study, running, "x", domain)
        for study in (filled(trials[:12]), Snapshot([seen(trial) for trial in trials[:12]]))
    ]
    assert drawn[0] == drawn[1]


def test_brute_force_sees_what_is_there_although_it_asks_the_storage() -> None:
    domain, running = CategoricalDistribution(["a", "b"]), create_trial(state=TrialState.RUNNING)
    running.number = 9
    for there, left in (("a", "b"), ("b", "a")):
        other = create_trial(params={"x": there}, distributions={"x": domain}, value=0.0)
        snapshot = Snapshot([other, running])
        assert BruteForceSampler(seed=0).sample_independent(snapshot, running, "x", domain) == left


@pytest.mark.parametrize(
    "pruner", [MedianPruner(n_startup_trials=1), SuccessiveHalvingPruner(2), HyperbandPruner(2, 4)]
)
def test_a_pruner_decides_from_a_snapshot_as_in_a_study_of_these_trials_alone(
    pruner: optuna.pruners.BasePruner,
) -> None:
    study = filled([finished(0.5) for _ in range(6)])
    for value in (0.2, 0.4, 0.6):
        running = create_trial(state=TrialState.RUNNING, intermediate_values={2: value})
        running.number = 50  # the same bracket in both
        snapshot = Snapshot([seen(trial) for trial in study.trials] + [seen(running)], name="s")
        beside = filled([*study.trials, running])
        frozen = beside.trials[6]
        frozen.number = 50
        assert pruner.prune(snapshot, seen(running)) == pruner.prune(beside, frozen)

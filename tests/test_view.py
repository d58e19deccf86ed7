"""A view of a study: what samplers and pruners see through it is the study with the other trials taken away."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import BruteForceSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.storages.snapshot import View

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


def filled(trials: list[FrozenTrial], **more: object) -> optuna.Study:
    study = optuna.create_study(study_name="s", storage=optuna.storages.InMemoryStorage(), **more)
    study.add_trials(trials)
    return study


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(STATES), st.booleans()), max_size=12))
def test_a_view_reads_as_the_study_with_the_other_trials_taken_away(rows: list[tuple[float, TrialState, bool]]) -> None:
    whole = filled([finished(x, state) for x, state, _ in rows])
    kept = {number for number, (_, _, keep) in enumerate(rows) if keep}
    view = View(whole, lambda trial: trial.number in kept)
    expected = [trial for trial in whole.trials if trial.number in kept]
    assert view.trials == expected == view.get_trials(deepcopy=False) == view._get_trials(use_cache=True)
    for states in [(TrialState.COMPLETE,), (TrialState.PRUNED, TrialState.FAIL)]:
        assert view.get_trials(states=states) == [trial for trial in expected if trial.state in states]
    assert view.directions == whole.directions and view.direction == whole.direction
    assert not view._is_multi_objective()
    complete = [trial for trial in expected if trial.state == TrialState.COMPLETE]
    if complete:
        assert view.best_trial.value == min(trial.value or 0.0 for trial in complete)
    else:
        with pytest.raises(ValueError, match="No trials"):
            _ = view.best_trial
    assert View(view, lambda trial: trial.number % 2 == 0).trials == [t for t in expected if t.number % 2 == 0]


@pytest.mark.parametrize("directions", [["minimize", "minimize"], ["maximize"]])
def test_a_view_has_the_directions_of_its_study(directions: list[str]) -> None:
    study = optuna.create_study(directions=directions)
    values = [[float(n)] * len(directions) for n in range(4)]
    study.add_trials([create_trial(values=each) for each in values])
    view = View(study, lambda trial: trial.number in (1, 2))
    assert view.directions == study.directions
    assert view._is_multi_objective() == (len(directions) > 1)
    best = [trial.number for trial in view.best_trials]
    assert best == ([1] if len(directions) > 1 else [2])


def test_a_view_follows_its_study_and_one_that_is_read_once_does_not() -> None:
    study = filled([finished(0.1)])
    follows, still = View(study, lambda trial: True), View(study, lambda trial: True, once=True)
    assert len(follows.trials) == len(still.trials) == 1
    study.add_trial(finished(0.2))
    assert len(follows.trials) == 2 and len(still.trials) == 1


def test_a_sampler_draws_through_a_view_as_from_a_study_of_these_trials_alone() -> None:
    trials = [finished(n / 20) for n in range(20)]
    domain, running = FloatDistribution(0.0, 1.0), create_trial(state=TrialState.RUNNING)
    drawn = []
    for study in (filled(trials[:12]), View(filled(trials), lambda trial: trial.number < 12)):
        running.number = 99
        drawn.append(TPESampler(seed=1, n_startup_trials=3).sample_independent(study, running, "x", domain))
    assert drawn[0] == drawn[1]


def test_brute_force_sees_what_is_kept_although_it_asks_the_storage() -> None:
    study = filled([])
    for x in ("a", "b"):
        study.enqueue_trial({"x": x})
        trial = study.ask()
        trial.suggest_categorical("x", ["a", "b"])
        study.tell(trial, 0.0)
    running = study._storage.get_trial(study.ask()._trial_id)
    domain = optuna.distributions.CategoricalDistribution(["a", "b"])
    for hidden, left in ((0, "a"), (1, "b")):
        view = View(study, lambda trial, hidden=hidden: trial.number != hidden)
        assert BruteForceSampler(seed=0).sample_independent(view, running, "x", domain) == left


@pytest.mark.parametrize(
    "pruner", [MedianPruner(n_startup_trials=1), SuccessiveHalvingPruner(2), HyperbandPruner(2, 4)]
)
def test_a_pruner_decides_through_a_view_as_in_a_study_of_these_trials_alone(pruner: optuna.pruners.BasePruner) -> None:
    trials = [finished(0.5) for _ in range(6)]
    better = [finished(0.1) for _ in range(30)]
    for value in (0.2, 0.4, 0.6):
        decided = []
        for study in (filled(trials, pruner=pruner), filled(trials + better, pruner=pruner)):
            view = View(study, lambda trial: trial.number < 6)
            trial = study.ask()
            trial.report(value, 2)
            frozen = study._storage.get_trial(trial._trial_id)
            frozen.number = 50  # the same bracket in both
            decided.append(pruner.prune(view, frozen))
        assert decided[0] == decided[1]

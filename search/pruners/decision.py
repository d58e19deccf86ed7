"""Whether a trial stops at its last report: the pruner is asked over the trials that it is to know."""

import time
import warnings
from collections.abc import Callable, Sequence

from optuna.pruners import BasePruner, NopPruner, PercentilePruner, WilcoxonPruner
from optuna.trial import FrozenTrial, TrialState

from search.pruners.funnel import FunnelPruner
from search.runtime import watchdog
from search.storages.attributes import OfTrial
from search.storages.liveness import abandoned
from search.storages.snapshot import Snapshot, seen
from search.storages.trials import Trials, earlier

RUNG = "completed_rung_"
COMPLETE_ONLY = (NopPruner, PercentilePruner, WilcoxonPruner)  # they look at no trial that is under way
BY_VALUES = (FunnelPruner,)  # of the others nothing but what they reported counts
POLL_SECONDS, LOST_SECONDS = 0.05, 60.0  # a trial waits so long for one that was lost to be taken up again
Says = Callable[[str], None]
Rivals = Callable[[Sequence[FrozenTrial], FrozenTrial], list[FrozenTrial]]  # those that a trial is compared with
_given_up: set[tuple[str, int]] = set()  # trials that are not waited for any more: study, number


def should_stop(
    study: Trials,
    pruner: BasePruner,
    number: int,
    rivals: Rivals,
    lag: int = 1,
    again: bool = False,
    says: Says | None = None,
) -> bool:
    """Ask the pruner whether a trial stops at its last report, among those that it is compared with.

    Of the trials before it those that were begun less than `lag` before are seen as they were at the same step, which
    is waited for, and none that comes after it: so it does not matter which of them still run. `says` is told where one
    of them was lost and no one takes it up again: then it is judged without.
    With `again` it was asked there before, and a kill lost its answer: Optuna's successive halving notes in the trial
    that a rung was passed, and would not look at it a second time.
    """
    alone = lag == 1 or isinstance(pruner, COMPLETE_ONLY)
    by_values = isinstance(pruner, BY_VALUES)
    trials = study.get_trials(deepcopy=False) if alone else _caught_up(study, number, lag, by_values, says)
    trial = trials[earlier(trials, number) - 1]
    step = max(trial.intermediate_values)
    known = earlier(trials, number - lag)
    beside = trials[known : earlier(trials, number - 1)]
    others = rivals([*trials[:known], *(_until(other, step) for other in beside)], trial)
    mine = seen(trial, attrs=_without_rung(trial, step) if again else None)
    snapshot = Snapshot([*filter(_has_curve, others), mine], study.directions[:1], study.study_name)
    with warnings.catch_warnings():  # Wilcoxon's, of steps that only one of two trials has
        warnings.simplefilter("ignore")
        stops = pruner.prune(snapshot, mine)
    study.note_for_optuna(number, snapshot.noted)
    if not alone and not by_values:
        study.note(number, {OfTrial.DECIDED: step})
    return stops


def _without_rung(trial: FrozenTrial, step: int) -> dict[str, float]:
    """What a trial has noted, without what it noted at its last report."""
    last = trial.intermediate_values[step]
    return {name: value for name, value in trial.system_attrs.items() if not (name.startswith(RUNG) and value == last)}


def _has_curve(trial: FrozenTrial) -> bool:
    """A complete trial without one repeats another's result, and was not trained."""
    return trial.state != TrialState.COMPLETE or bool(trial.intermediate_values)


def _caught_up(study: Trials, number: int, lag: int, by_values: bool, says: Says | None) -> list[FrozenTrial]:
    """The trials, as soon as each before trial `number` is over or has come to its step.

    A pruner that does not decide by values alone notes what it decided: then that is waited for. The parts of a trial
    are read one after the other, in no promised order. So a trial that still runs is read once more: all that was
    written before the sign that was waited for is there then.
    """
    lost_since: float | None = None
    while True:
        trials = study.get_trials(deepcopy=False)
        mine = earlier(trials, number) - 1
        step = max(trials[mine].intermediate_values)
        running = [
            other
            for other in trials[earlier(trials, number - lag) : mine]
            if other.state == TrialState.RUNNING and (study.study_name, other.number) not in _given_up
        ]
        behind = [other for other in running if step > _came_to(other, by_values)]
        if not behind:
            return study.get_trials(deepcopy=False) if running else trials
        if len(abandoned(study, behind)) < len(behind):
            lost_since = None
        elif time.monotonic() - (lost_since := lost_since or time.monotonic()) > LOST_SECONDS:
            _given_up.update((study.study_name, other.number) for other in behind)
            numbers = ", ".join(str(other.number) for other in behind)
            if says is not None:
                says(f"trial {numbers} was left behind and is not taken up: trial {number} is judged without it")
        with watchdog.voice.waiting():
            time.sleep(POLL_SECONDS)


def _came_to(trial: FrozenTrial, by_values: bool) -> int:
    if by_values:
        return max(trial.intermediate_values, default=-1)
    return int(trial.user_attrs.get(OfTrial.DECIDED, -1))


def _until(trial: FrozenTrial, step: int) -> FrozenTrial:
    """A trial as it was at a step."""
    curve = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    return seen(trial, state=TrialState.RUNNING, curve=curve)

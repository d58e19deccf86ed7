"""Whether a trial stops at its last report: the pruner is asked over the trials that it is to know."""

import copy
import time
from collections.abc import Callable

from optuna.pruners import NopPruner, PercentilePruner, WilcoxonPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from search.runtime import watchdog
from search.storages import rdb
from search.storages.ledger import earlier, under_way
from search.storages.liveness import left_behind
from search.storages.snapshot import View, still

RUNG = "completed_rung_"
COMPLETE_ONLY = (NopPruner, PercentilePruner, WilcoxonPruner)  # they look at no trial that is under way
DECIDED = "decided"  # the last step at which the pruner was asked
POLL_SECONDS, LOST_SECONDS = 0.05, 60.0  # a trial waits so long for one that was lost to be taken up again
Says = Callable[[str], None]
Seen = Callable[[Study, FrozenTrial], Study]  # the study as it is to be seen for a trial
_given_up: set[int] = set()  # trials that are not waited for any more


def should_stop(
    study: Study, trial: Trial, rivals: Seen, lag: int = 1, again: bool = False, says: Says | None = None
) -> bool:
    """Ask the pruner whether a trial stops at its last report, among those that it is compared with.

    Of the trials before it those that were begun less than `lag` before are seen as they were at the same step, which
    is waited for, and none that comes after it: so it does not matter which of them still run. `says` is told where one
    of them was lost and nobody takes it up again: then it is judged without.
    With `again` it was asked there before, and a kill lost its answer: Optuna's successive halving notes in the trial
    that a rung was passed, and would not look at it a second time.
    """
    by_values = getattr(study.pruner, "by_values", False)
    alone = lag == 1 or isinstance(study.pruner, COMPLETE_ONLY)
    trials = study.get_trials(deepcopy=False) if alone else _caught_up(study, trial, lag, by_values, says)
    frozen = trials[earlier(trials, trial.number) - 1]
    step = max(frozen.intermediate_values)
    known = earlier(trials, trial.number - lag)
    beside = trials[known : earlier(trials, trial.number - 1)]
    seen = still(study, [*trials[:known], *(_until(other, step) for other in beside), frozen])
    if again:
        frozen = copy.deepcopy(frozen)
        last = frozen.intermediate_values[step]
        noted = {name for name, value in frozen.system_attrs.items() if name.startswith(RUNG) and value == last}
        frozen.system_attrs = {name: value for name, value in frozen.system_attrs.items() if name not in noted}
        seen = View(seen, lambda other: other.number != trial.number)
    stops = study.pruner.prune(rivals(seen, frozen), frozen)
    if not alone and not by_values:
        rdb.note(trial, {DECIDED: step})
    return stops


def _caught_up(study: Study, trial: Trial, lag: int, by_values: bool, says: Says | None) -> list[FrozenTrial]:
    """The trials, as soon as each before `trial` is over or has come to its step.

    A pruner that does not decide by values alone notes what it decided: then that is waited for.
    """
    lost_since: float | None = None
    waited = False
    while True:
        trials = study.get_trials(deepcopy=False)
        mine = earlier(trials, trial.number) - 1
        step = max(trials[mine].intermediate_values)
        behind = [
            other
            for other in trials[earlier(trials, trial.number - lag) : mine]
            if other.state == TrialState.RUNNING and step > _came_to(other, by_values)
            if other._trial_id not in _given_up
        ]
        if (
            not behind
        ):  # read once more: what a trial is compared by is written before its report, and was read after it
            return study.get_trials(deepcopy=False) if waited else trials
        waited = True
        if len(left_behind(study, behind)) < len(behind):
            lost_since = None
        elif time.monotonic() - (lost_since := lost_since or time.monotonic()) > LOST_SECONDS:
            _given_up.update(other._trial_id for other in behind)
            numbers = ", ".join(str(other.number) for other in behind)
            if says is not None:
                says(f"trial {numbers} was left behind and is not taken up: trial {trial.number} is judged without it")
        with watchdog.voice.waiting():
            time.sleep(POLL_SECONDS)


def _came_to(trial: FrozenTrial, by_values: bool) -> int:
    if by_values:
        return max(trial.intermediate_values, default=-1)
    return int(trial.user_attrs.get(DECIDED, -1))


def _until(trial: FrozenTrial, step: int) -> FrozenTrial:
    """A trial as it was at a step."""
    then = under_way(trial)
    then.intermediate_values = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    return then

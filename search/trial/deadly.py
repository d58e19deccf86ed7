"""A training at which processes died: when it is not tried again."""

from optuna.trial import FrozenTrial

from search.runtime import watchdog
from search.storages.attributes import OfTrial
from search.trial.run import Rejected

DEADLY = 2  # so many processes may die at a trial without a report between


def deadly(trial: FrozenTrial) -> Rejected | None:
    """What ends a trial at which processes died: one that took too long for its cap, or else two at one place.

    Where a training has reported since the death before, it was no death of the config's: it got beyond.
    """
    deaths: list[tuple[int, str]] = list(trial.user_attrs.get(OfTrial.DIED_AT, {}).values())
    step, last = deaths[-1] if deaths else (0, "")
    if last.startswith(watchdog.OVER):
        return Rejected("pruned", "cap", last, {})
    if sum(each == step for each, _ in deaths) < DEADLY:
        return None
    kind = "hung" if last.startswith(watchdog.SILENT) else "crashed"
    return Rejected("failed", kind, f"{last}; the second time", {})

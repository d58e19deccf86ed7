"""A search that is shared: open to the workers that stand by (cli/standby.py) from when it is typed to its end."""

import time
from collections.abc import Sequence
from typing import Any

from denoise.config.overrides import Overrides
from denoise.metrics import SAMPLES_PER_SECOND
from search.storages.attributes import OfStudy, OfTrial

WITHDRAWN = "withdrawn"  # where that was
HERE = ("store", "tracking.uri", "search.storage", "search.shared", "search.workers")  # a worker has its own
WAIT_SECONDS = 1.0  # so often it is looked whether the others' last trials have ended


def ask(study: Any, typed: Sequence[str]) -> None:
    """Open a search to the workers."""
    study.set_user_attr(OfStudy.ASKED, list(Overrides(typed).without(HERE)))


def end(study: Any) -> None:
    """Close a search to them."""
    if study.user_attrs.get(OfStudy.ASKED) is not None:
        study.set_user_attr(OfStudy.ASKED, None)


def withdraw(study: Any) -> None:
    """Close a search that has not ended: the workers leave it."""
    study.set_user_attr(OfStudy.ASKED, WITHDRAWN)


def is_open(study: Any) -> bool:
    """Tell whether a search is open to the workers."""
    return study.user_attrs.get(OfStudy.ASKED) not in (None, WITHDRAWN)


def waits(session: Any) -> bool:
    """Tell whether a search that is shared is still under way in other processes, after a moment."""
    from search.storages import liveness

    if not (session.search.settings.shared or is_open(session.study)) or not liveness.elsewhere(session.study):
        return False
    time.sleep(WAIT_SECONDS)
    return True


def show(session: Any, display: Any, shown: set[int]) -> None:
    """Show the trials of a shared search that have ended in other processes since the last time."""
    from search.space.option import difference
    from search.storages.trials import OVER

    if not session.search.settings.shared:
        return
    mine = {done.run_id for done in session.trained}
    for trial in session.own(*OVER):
        if trial.number not in shown and trial.user_attrs.get(OfTrial.RUN_ID) not in mine:
            known = trial.user_attrs
            display.trial_starts(trial.number, difference(known[OfTrial.OVERRIDES], session.search.baseline), worker=-1)
            step = max(trial.intermediate_values, default=0)
            value = trial.values[0] if trial.values else trial.intermediate_values.get(step)
            outcome = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
            display.trial_ends(outcome, step, value, known.get(SAMPLES_PER_SECOND), worker=-1)
        shown.add(trial.number)

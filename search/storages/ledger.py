"""What is known of the finished trials of a study, each looked at once: a finished trial does not change."""

import copy
from bisect import bisect_right
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState


class Ledger:
    """An index over the finished trials at the front of a list, kept up by `read`.

    It holds nothing that another process would not find in the storage. A subclass says in `clear` how it begins and in
    `take` what it notes of a trial.
    """

    def __init__(self) -> None:
        self.count = 0  # so many trials at the front are taken
        self.last: FrozenTrial | None = None
        self.clear()

    def clear(self) -> None:
        """Forget all trials."""
        raise NotImplementedError

    def take(self, trial: FrozenTrial) -> None:
        """Note a finished trial."""
        raise NotImplementedError

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in what is new; another list than before is read from its start."""
        if self.count > len(trials) or (self.count and trials[self.count - 1] is not self.last):
            self.count = 0
            self.clear()
        while self.count < len(trials) and trials[self.count].state.is_finished():
            self.last = trials[self.count]
            self.take(self.last)
            self.count += 1


def earlier(trials: Sequence[FrozenTrial], number: int) -> int:
    """How many of some trials, in order of their numbers, have this number or one before it."""
    return bisect_right(trials, number, key=lambda trial: trial.number)


def under_way(trial: FrozenTrial) -> FrozenTrial:
    """A copy of a trial as one that runs and has not reported anything."""
    running = copy.copy(trial)
    running.state, running.values, running.intermediate_values = TrialState.RUNNING, None, {}
    return running

"""What a search asks of the trials before: how many are done, the best value, a trial with the same overrides.

An index over the finished trials of a study, which do not change: each is looked at once. It holds nothing that another
process would not find in the storage.
"""

import json
from typing import Any
from weakref import WeakKeyDictionary

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class History:
    """The finished trials by overrides, their number, the lowest value; brought up to date by `read`."""

    def __init__(self) -> None:
        self.first: dict[str, FrozenTrial] = {}
        self.best: float | None = None
        self.done = self.running = 0
        self.taken: set[int] = set()

    def read(self, study: Study) -> "History":
        """Take in what has ended since."""
        left = [trial for trial in study.get_trials(deepcopy=False) if trial.number not in self.taken]
        self.running = sum(trial.state == TrialState.RUNNING for trial in left)
        for trial in left:
            if trial.state.is_finished():
                self._take(trial)
        return self

    def _take(self, trial: FrozenTrial) -> None:
        self.taken.add(trial.number)
        self.done += 1
        if trial.state != TrialState.COMPLETE:
            return
        name = named(trial.user_attrs.get("overrides"))
        if name not in self.first or trial.number < self.first[name].number:
            self.first[name] = trial
        for value in trial.values[:1]:
            self.best = value if self.best is None else min(self.best, value)

    def twin(self, overrides: list[str]) -> FrozenTrial | None:
        """The first complete trial with the same overrides: its result is theirs too."""
        return self.first.get(named(overrides))


def named(overrides: Any) -> str:
    """A list of overrides as one word."""
    return json.dumps(overrides)


_histories: WeakKeyDictionary[Study, History] = WeakKeyDictionary()


def of(study: Study) -> History:
    """The history of a study as it is now."""
    return _histories.setdefault(study, History()).read(study)

"""What a search asks of the trials before: which had the same config.

An index over the finished trials of a study, which do not change: each is looked at once. It holds nothing that another
process would not find in the storage.
"""

from weakref import WeakKeyDictionary

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class History:
    """The complete trials of a study by the hash of their config; kept up by `read`."""

    def __init__(self) -> None:
        self.first: dict[str, FrozenTrial] = {}
        self.taken: set[int] = set()
        self.upto = 0  # so many trials from the first on are over and were looked at

    def read(self, study: Study) -> "History":
        """Take in what has ended since."""
        trials = study.get_trials(deepcopy=False)
        for trial in trials[self.upto :]:
            if trial.state == TrialState.COMPLETE and trial.number not in self.taken:
                self._take(trial)
        while self.upto < len(trials) and trials[self.upto].state.is_finished():
            self.upto += 1
        return self

    def _take(self, trial: FrozenTrial) -> None:
        self.taken.add(trial.number)
        sha256 = trial.user_attrs.get("config_sha256")
        if sha256 is not None and (sha256 not in self.first or trial.number < self.first[sha256].number):
            self.first[sha256] = trial

    def twin(self, sha256: str) -> FrozenTrial | None:
        """The first complete trial of the same config: its result is this one's too."""
        return self.first.get(sha256)


_histories: WeakKeyDictionary[Study, History] = WeakKeyDictionary()


def of(study: Study) -> History:
    """The history of a study as it is now."""
    return _histories.setdefault(study, History()).read(study)

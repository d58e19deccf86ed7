"""What a search asks of the trials before: which had the same config."""

from weakref import WeakKeyDictionary

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.storages.ledger import Ledger


class History(Ledger):
    """The complete trials of a study by the hash of their config."""

    def clear(self) -> None:
        self.first: dict[str, FrozenTrial] = {}

    def take(self, trial: FrozenTrial) -> None:
        sha256 = trial.user_attrs.get("config_sha256")
        if trial.state == TrialState.COMPLETE and sha256 is not None:
            self.first.setdefault(sha256, trial)

    def twin(self, sha256: str, last: int) -> FrozenTrial | None:
        """The first complete trial of the same config, of those up to number `last`: its result is this one's too."""
        found = self.first.get(sha256)
        return found if found is not None and found.number <= last else None


_histories: WeakKeyDictionary[Study, History] = WeakKeyDictionary()


def of(study: Study) -> History:
    """The history of a study as it is now."""
    history = _histories.setdefault(study, History())
    history.read(study.get_trials(deepcopy=False))
    return history

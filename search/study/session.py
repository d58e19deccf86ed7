"""A search that runs: what it asks, where its trials lie, who watches."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from denoise.config import catalog
from denoise.errors import UserError
from search.report.progress import TrialDisplay
from search.samplers import make
from search.samplers.seeded import SeededSampler
from search.storages.attributes import OfTrial
from search.storages.lock import lock
from search.storages.trials import Trials
from search.study.spec import Search
from search.tracking.record import check_overrides
from search.tracking.tracker import Run, Tracker
from search.trial.run import TrialResult
from search.workers.pool import WorkerPool


@dataclass
class Session:
    """A search that runs: its study, its books, who watches and who helps; `trained` is what this process has done."""

    search: Search
    study: Trials
    tracker: Tracker
    parent: Run
    display: TrialDisplay
    pool: WorkerPool | None = None
    trained: list[TrialResult] = field(default_factory=list)
    sampler: SeededSampler = field(init=False)
    pruner: BasePruner = field(init=False)

    def __post_init__(self) -> None:
        cfg = self.search.composed.cfg
        self.sampler = make.sampler(cfg, len(self.search.mode.objectives))
        self.pruner = catalog.call(cfg.pruner, kind="pruner")

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states; all without any."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def lock(self) -> AbstractContextManager[None]:
        """Within, no other process begins a trial of this search."""
        return lock(self.search.store, self.search.name, url=self.search.storage_url)

    def own(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states that were not migrated from another study."""
        return [trial for trial in self.trials(*states) if OfTrial.MIGRATED not in trial.user_attrs]


def overrides_of(search: Search, trial: FrozenTrial) -> list[str]:
    """A trial's overrides, as Optuna's storage has them. Errors: UserError where no search would draw them."""
    found = trial.user_attrs.get(OfTrial.OVERRIDES)
    where = f"trial {trial.number} in the storage"
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise UserError(f"{where}: its overrides are {found!r}, no list of texts: the storage has been changed")
    typed = {*search.space.fixed, *(text for own in search.space.own.values() for text in own)}
    check_overrides([text for text in found if text not in typed], where)
    return found

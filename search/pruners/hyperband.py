"""Hyperband: a funnel for each bracket, told by the trial's number."""

from optuna.pruners import BasePruner, HyperbandPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.storages.snapshot import View


class Hyperband(BasePruner):
    """Successive halving among the trials of one bracket, the bracket drawn by (study, trial number).

    Optuna's own makes its brackets at the first report of a process, so that a trial after a kill would be drawn for
    another bracket; here they are there from the start, and samplers see the study as it is.
    """

    def __init__(self, *, min_resource: int, max_resource: int, reduction_factor: int = 3) -> None:
        if max_resource < min_resource:
            raise ValueError(f"max_resource={max_resource}: must be min_resource={min_resource} or more")
        self.inner = HyperbandPruner(
            min_resource=min_resource, max_resource=max_resource, reduction_factor=reduction_factor
        )
        study: Study = None  # type: ignore[assignment]  # asked only where max_resource is to be found out
        self.inner._try_initialization(study)

    def bracket(self, study: Study, trial: FrozenTrial) -> int:
        """The bracket of a trial: s begins at min_resource * reduction_factor^s."""
        return self.inner._get_bracket_id(study, trial)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        mine = self.bracket(study, trial)
        among = View(study, lambda other: self.bracket(study, other) == mine)
        return self.inner._pruners[mine].prune(among, trial)

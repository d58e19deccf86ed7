"""The pruners of conf/pruner/ that are not Optuna's as they are: a decision depends on the study alone."""

import math
import warnings

from optuna.pruners import BasePruner, HyperbandPruner, WilcoxonPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.view import View


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


class Wilcoxon(WilcoxonPruner):
    """Optuna's, against the best trial that has a curve: a repeated trial was not trained and has none."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        curves = View(study, lambda other: other.state != TrialState.COMPLETE or bool(other.intermediate_values))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # steps that only one of the two has are left out
            return super().prune(curves, trial)


class FunnelPruner(BasePruner):
    """At step s the best max(1, ceil(n * share * first / s)) go on, of the n trials that were measured at all.

    Successive halving's law (the part that goes on falls as 1 / s) at every report from step `first` on: a trial that
    was stopped earlier counts as worse. Li et al. 2020, arXiv:1810.05934, has it at the steps first * factor^k, rounds
    down, and compares only those that came to a rung. Nothing is remembered but the reported values.
    """

    def __init__(self, first: int, share: float = 0.25) -> None:
        if first < 1 or not 0 < share <= 1:
            raise ValueError(f"first={first}, share={share}: first must be 1 or more, share in (0, 1]")
        self.first, self.share = first, share

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < self.first:
            return False
        value = trial.intermediate_values[step]
        if math.isnan(value):
            return True
        sign = 1 if study.direction.name == "MINIMIZE" else -1
        measured, better = 1, 0
        for other in study.get_trials(deepcopy=False):
            curve = other.intermediate_values
            if not curve:
                continue
            there = curve.get(step)
            if there == value and other.number == trial.number:  # itself; the number is asked for last: it costs most
                continue
            measured += there is not None or max(curve) >= self.first
            better += there is not None and sign * there < sign * value
        return better >= max(1, math.ceil(measured * self.share * self.first / step - 1e-9))

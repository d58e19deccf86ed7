"""A funnel: a decision at every measurement, by the values at the same step."""

import math

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial


class FunnelPruner(BasePruner):
    """At step s the best max(1, ceil(n * share * first / s)) go on, of the n trials that were measured at all.

    Successive halving's law (the part that goes on falls as 1 / s) at every report from step `first` on: a trial that
    was stopped earlier counts as worse. Li et al. 2020, arXiv:1810.05934, has it at the steps first * factor^k, rounds
    down, and compares only those that reached a rung. Nothing is remembered but the reported values.
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
        sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
        curves = [t.intermediate_values for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        measured = 1 + sum(bool(curve) and max(curve) >= self.first for curve in curves)
        better = sum(step in curve and sign * curve[step] < sign * value for curve in curves)
        return better >= max(1, math.ceil(measured * self.share * self.first / step - 1e-9))

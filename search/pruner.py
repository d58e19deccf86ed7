"""A pruner that thins the trials out at every measurement, not at a few rungs."""

import math

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial


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
        others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        measured = 1 + sum((one.last_step or 0) >= self.first for one in others)
        allowed = max(1, math.ceil(measured * self.share * self.first / step - 1e-9))
        sign = 1 if study.direction.name == "MINIMIZE" else -1
        there = [one.intermediate_values[step] for one in others if step in one.intermediate_values]
        return sum(sign * other < sign * value for other in there) >= allowed

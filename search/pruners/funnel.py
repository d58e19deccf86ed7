"""The pruners of conf/pruner/ that are not Optuna's as they are: a decision depends on the study alone."""

import math
from bisect import bisect_left, bisect_right, insort

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.storages.ledger import Ledger


class FunnelPruner(BasePruner):
    """At step s the best max(1, ceil(n * share * first / s)) go on, of the n trials that were measured at all.

    Successive halving's law (the part that goes on falls as 1 / s) at every report from step `first` on: a trial that
    was stopped earlier counts as worse. Li et al. 2020, arXiv:1810.05934, has it at the steps first * factor^k, rounds
    down, and compares only those that came to a rung. Nothing is remembered but the reported values.
    """

    by_values = True  # of the others nothing but what they reported counts

    def __init__(self, first: int, share: float = 0.25) -> None:
        if first < 1 or not 0 < share <= 1:
            raise ValueError(f"first={first}, share={share}: first must be 1 or more, share in (0, 1]")
        self.first, self.share = first, share
        self.curves = Curves(first)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < self.first:
            return False
        value = trial.intermediate_values[step]
        if math.isnan(value):
            return True
        sign = 1 if study.direction.name == "MINIMIZE" else -1
        others = study.get_trials(deepcopy=False)
        self.curves.read(others)
        measured, better = 1 + self.curves.measured, self.curves.better(step, value, sign)
        for other in others[self.curves.count :]:
            curve = other.intermediate_values
            if not curve or other.number == trial.number:
                continue
            there = curve.get(step)
            measured += max(curve) >= self.first
            better += there is not None and sign * there < sign * value
        return better >= max(1, math.ceil(measured * self.share * self.first / step - 1e-9))


class Curves(Ledger):
    """The values of finished trials at each step, sorted, and how many came to step `first` at all."""

    def __init__(self, first: int) -> None:
        self.first = first
        super().__init__()

    def clear(self) -> None:
        self.measured = 0
        self.values: dict[int, list[float]] = {}

    def take(self, trial: FrozenTrial) -> None:
        curve = trial.intermediate_values
        self.measured += bool(curve) and max(curve) >= self.first
        for step, value in curve.items():
            if not math.isnan(value):
                insort(self.values.setdefault(step, []), value)

    def better(self, step: int, value: float, sign: int) -> int:
        """How many have a lower value at a step; with sign -1 a higher one."""
        values = self.values.get(step, [])
        return bisect_left(values, value) if sign > 0 else len(values) - bisect_right(values, value)

"""Pruners on a pool: whether a training is stopped at a rung.

`stops` is asked after each measurement but the last with all values so far and notes what it must; `ended` is told how
a trial ended. One training runs at a time.
"""

import binascii
import math
from bisect import bisect_left, insort
from typing import Protocol

import numpy as np


class Pruner(Protocol):
    """Decides when a training is hopeless."""

    def stops(self, number: int, seen: np.ndarray) -> bool:
        """Whether trial `number`, whose values so far are `seen`, stops here."""
        ...

    def ended(self, number: int, seen: np.ndarray, complete: bool) -> None:
        """Take note of a trial that was complete, pruned or failed."""
        ...


class Never:
    """Every trial runs to its end."""

    def stops(self, number: int, seen: np.ndarray) -> bool:
        return False

    def ended(self, number: int, seen: np.ndarray, complete: bool) -> None:
        pass


class Halving:
    """Optuna's SuccessiveHalvingPruner: at steps first * factor^k the best floor(n / factor) of n go on, at least one.

    Li et al. 2020, arXiv:1810.05934, without resuming. n counts the trial itself; `rate` leaves out the first rungs;
    `waits` stops nothing before a trial was complete, as min_resource="auto" does, which takes its length from it.
    """

    def __init__(self, every: int, first: int, factor: int, rate: int = 0, waits: bool = False) -> None:
        self.every, self.first, self.factor, self.rate, self.waits = every, first, factor, rate, waits
        self.values: list[list[float]] = []  # of each rung, sorted
        self.at: tuple[int, int] = (-1, 0)  # the trial, and the rung that it runs towards

    def stops(self, number: int, seen: np.ndarray) -> bool:
        rung = self.at[1] if self.at[0] == number else 0
        step, value = len(seen) * self.every, float(seen[-1])
        while not self.waits and step >= self.first * self.factor ** (self.rate + rung):
            if math.isnan(value):
                return True
            while len(self.values) <= rung:
                self.values.append([])
            values = self.values[rung]
            insort(values, value)
            if bisect_left(values, value) > max(len(values) // self.factor, 1) - 1:
                return True
            rung += 1
        self.at = (number, rung)
        return False

    def ended(self, number: int, seen: np.ndarray, complete: bool) -> None:
        self.waits = self.waits and not complete


class Hyperband:
    """Optuna's HyperbandPruner: halvings that start later and later, each trial in one of them by a hash of its number.

    Li et al. 2018, JMLR 18.
    """

    def __init__(self, every: int, first: int, factor: int, steps: int, study: str) -> None:
        count = math.floor(math.log(steps / first, factor)) + 1
        self.study = study
        self.halvings = [Halving(every, first, factor, rate) for rate in range(count)]
        self.shares = [math.ceil(count * factor ** (count - 1 - i) / (count - i)) for i in range(count)]

    def bracket(self, number: int) -> int:
        """Which halving a trial belongs to."""
        place = binascii.crc32(f"{self.study}_{number}".encode()) % sum(self.shares)
        return next(i for i in range(len(self.shares)) if place < sum(self.shares[: i + 1]))

    def stops(self, number: int, seen: np.ndarray) -> bool:
        return self.halvings[self.bracket(number)].stops(number, seen)

    def ended(self, number: int, seen: np.ndarray, complete: bool) -> None:
        pass


class Percentile:
    """Optuna's PercentilePruner: stops a best value so far above a percentile of the complete trials' there."""

    def __init__(self, percentile: float = 50.0, startup: int = 5) -> None:
        self.percentile, self.startup = percentile, startup
        self.complete: list[np.ndarray] = []

    def stops(self, number: int, seen: np.ndarray) -> bool:
        if len(self.complete) < max(1, self.startup):
            return False
        limit = np.percentile([curve[len(seen) - 1] for curve in self.complete], self.percentile)
        return bool(np.min(seen) > limit)

    def ended(self, number: int, seen: np.ndarray, complete: bool) -> None:
        if complete:
            self.complete.append(seen)


class Funnel:
    """At step s the best max(1, ceil(n * share * (first / s)^power)) go on, n the trials that were measured at all.

    Successive halving's law at every measurement, for power 1: what was stopped before counts as worse.
    """

    def __init__(self, share: float, power: float = 1.0) -> None:
        self.share, self.power = share, power
        self.values: list[list[float]] = []  # of each rung, sorted

    def stops(self, number: int, seen: np.ndarray) -> bool:
        rung, value = len(seen) - 1, float(seen[-1])
        while len(self.values) <= rung:
            self.values.append([])
        insort(self.values[rung], value)
        allowed = math.ceil(len(self.values[0]) * self.share / (rung + 1) ** self.power - 1e-9)
        return bisect_left(self.values[rung], value) >= max(1, allowed)

    def ended(self, number: int, seen: np.ndarray, complete: bool) -> None:
        pass

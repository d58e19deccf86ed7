"""The best of an option's trials: what it is worth at a given budget, and how far chance moves it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

LEVEL = 0.95
CAUTION = 1.5  # on the median over the options: half of them have a spread above it


@dataclass(frozen=True)
class OptionTrials:
    """An option's trials: the values of those that completed, ascending, and how many ended at all.

    A trial that was stopped early or failed took its part of the budget and is never the best.
    """

    values: tuple[float, ...]
    trials: int


def expected_best(arm: OptionTrials, budget: int) -> float:
    """sum_k C(n - k, m - 1) / C(n, m) x_(k): the mean best of m of the n trials, drawn without replacement.

    Dodge et al. 2019, arXiv:1909.03004, draw with replacement, which is biased upwards where m is near n; without,
    the mean is unbiased, and the best itself at m = n. Given that one of the m completed.
    """
    n, m = arm.trials, min(budget, arm.trials)
    weights = np.array([math.comb(n - k, m - 1) / math.comb(n, m) for k in range(1, len(arm.values) + 1)])
    return float(weights @ np.array(arm.values) / weights.sum())


def resampled_variance(arm: OptionTrials, budget: int) -> float:
    """sum_k p_k (x_(k) - mean)^2, p_k = ((n - k + 1)^m - (n - k)^m) / n^m: the bootstrap of the best, in closed form.

    p_k is the probability that the best of m trials drawn with replacement is the k-th of n.
    """
    left = (arm.trials - np.arange(len(arm.values) + 1)) / arm.trials
    p = -np.diff(left**budget)
    p = p / p.sum()
    x = np.array(arm.values)
    return float(p @ (x - p @ x) ** 2)


class Chance:
    """How far the best of each option would move with other draws of the tuned values, and with another seed.

    variance of a best = tuning + seed_sd^2.
    tuning: the larger of the arm's own bootstrap variance and 1.5 times the median over the arms. One arm's figure
    rests on the gaps between its best few trials and is by chance far too small in some of many arms; the median, and
    not the mean, because an option with a wild spread says nothing about the others. Degrees of freedom: the arms with
    two values or more (three where seed_sd is not known).
    seed_sd: the pooled standard deviation over fresh seeds, with seed_df degrees of freedom; left out where it is not
    known, and then the scatter of the values holds only what of it differs between trials.
    """

    def __init__(self, arms: Sequence[OptionTrials], seed_sd: float | None = None, seed_df: int | None = None) -> None:
        self.arms = [arm for arm in arms if arm.values]
        least = 2 if seed_sd else 3  # two values' one gap, without the seeds' part, is too bold (86 % in simulation)
        self.spread = [arm for arm in self.arms if len(arm.values) >= least]
        self.seed = seed_sd**2 if seed_sd is not None else 0.0
        self.seed_df = math.inf if seed_df is None else float(seed_df)
        self.single = all(arm.trials == 1 for arm in self.arms)
        self.common: dict[int, float] = {}
        self.known = bool(self.spread) or (self.seed > 0 and self.single)

    def tuning(self, arm: OptionTrials, budget: int) -> float:
        """The variance of `expected_best` from the draws; at most m / n of the best of m's (Hoeffding 1948)."""
        if self.single or not self.spread:
            return 0.0
        if budget not in self.common:
            self.common[budget] = float(np.median([resampled_variance(other, budget) for other in self.spread]))
        larger = max(resampled_variance(arm, budget), CAUTION * self.common[budget])
        return larger * min(budget, arm.trials) / arm.trials

    def freedom(self, tuning: float) -> float:
        """Degrees of freedom of tuning + seed variance (Satterthwaite 1946)."""
        parts = (self.seed**2 / self.seed_df) + (tuning**2 / len(self.spread) if self.spread else 0.0)
        return (tuning + self.seed) ** 2 / parts if parts else self.seed_df

    def interval(self, arm: OptionTrials) -> tuple[float, float] | None:
        """best +- t sqrt(variance): where the best of as many trials would lie in another go; None: not known."""
        tuning = self.tuning(arm, arm.trials)
        variance = tuning + self.seed
        if not self.known or variance <= 0:
            return None
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.freedom(tuning))) * math.sqrt(variance)
        return arm.values[0] - half, arm.values[0] + half

    def behind(self, first: OptionTrials, other: OptionTrials) -> float | None:
        """The least by which `other` is worse than `first`, at LEVEL over all pairs; None where it is not shown to be.

        Their difference at the smaller budget of the two, less q(options, df) sqrt((v1 + v2) / 2), q of the
        studentized range: Tukey's comparison of all pairs with unequal variances (Games & Howell 1976).
        """
        if not self.known or len(self.arms) < 2:
            return None
        budget = min(first.trials, other.trials)
        difference = expected_best(other, budget) - expected_best(first, budget)
        tuning = (self.tuning(first, budget) + self.tuning(other, budget)) / 2
        variance = tuning + self.seed
        if difference <= 0 or variance <= 0:
            return None
        least = difference - studentized_range(len(self.arms), self.freedom(tuning)) * math.sqrt(variance)
        return least if least > 0 else None


def studentized_range(options: int, df: float) -> float:
    """q(LEVEL; options, df), the degrees of freedom rounded down, so that few of them are ever computed."""
    if df < 20:
        return _studentized_range(options, max(1.0, math.floor(2 * df) / 2))
    return _studentized_range(options, min(10 * math.floor(df / 10), 1000) if df < math.inf else math.inf)


@cache
def _studentized_range(options: int, df: float) -> float:
    return float(stats.studentized_range.ppf(LEVEL, options, df))

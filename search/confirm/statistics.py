"""Is a finalist better than the baseline? Paired differences over few seeds, several looks, several finalists.

One comparison: the seed-by-seed differences d_1..d_n, finalist minus baseline, are taken as normal with an unknown
variance, so mean(d) / (sd(d) / sqrt(n)) has Student's t with n - 1 degrees of freedom, exactly, however small n is.
Each finalist has the variance of its own differences: pooling it over finalists would buy power with the assumption
that all configs scatter alike, which is wrong as soon as they have other learning rates.

Several finalists share the error evenly (Bonferroni): the intervals hold together, whatever the correlation that the
common baseline brings. Dunnett's exact level for independent arms (Dunnett 1955, doi:10.1080/01621459.1955.10501294)
would be 0.027 in the place of 0.025 for two finalists: not worth an assumption.

Several looks share it too, by Lan and DeMets' spending function of O'Brien and Fleming's kind (Lan & DeMets 1983,
doi:10.1093/biomet/70.3.659): little is spent early, and the last look is nearly as sharp as a single one would be.
The intervals are repeated confidence intervals (Jennison & Turnbull 1989, J. R. Stat. Soc. B 51, 305): they cover at
all looks at once, so the one at hand is valid wherever the trainings stop, and for whatever reason.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import stats

BETTER, WORSE, OPEN = VERDICTS = ("better", "worse", "no difference shown")
FIRST_LOOK = 3  # seeds; with two the interval has one degree of freedom and excludes nothing
DRAWS = 1_000_000

Interval = tuple[float, float]


def spent(alpha: float, share: float) -> float:
    """2 - 2 Phi(z_(alpha/2) / sqrt(share)): the error spent when `share` of the seeds are there."""
    return float(2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(share)))


@lru_cache(maxsize=64)
def nominal_levels(seeds: int, alpha: float) -> dict[int, float]:
    """Seeds so far -> the two-sided level of the t test there, for looks from FIRST_LOOK to `seeds`.

    Chosen so that equal arms have crossed by the n-th seed with probability spent(alpha, n / seeds), alpha in all. The
    t statistics of one sequence of normal differences depend on no unknown, so their joint law is simulated (1,000,000
    sequences, keyed: the same numbers every time); the first level is what is spent there, exactly.
    """
    rng = np.random.default_rng(0)
    total, squares = np.zeros(DRAWS), np.zeros(DRAWS)
    levels: dict[int, float] = {}
    before = 0.0
    for n in range(1, seeds + 1):
        x = rng.standard_normal(len(total))
        total, squares = total + x, squares + x * x
        if n < min(FIRST_LOOK, seeds):
            continue
        now = spent(alpha, n / seeds)
        t = np.abs(total) / np.sqrt(n * (squares - total**2 / n) / (n - 1))
        count = max(1, round((now - before) * DRAWS))
        bound = float(np.partition(t, -count)[-count])
        levels[n] = float(2 * stats.t.sf(bound, n - 1)) if levels else now
        going = t < stats.t.isf(levels[n] / 2, n - 1)
        total, squares, before = total[going], squares[going], now
    return levels


def t_interval(differences: Sequence[float], level: float) -> Interval:
    """mean -+ t_(n-1) sd / sqrt(n), two-sided at `level`; two or more differences."""
    d = np.asarray(differences, dtype=float)
    half = _critical(1 - level, len(d)) * float(d.std(ddof=1)) / math.sqrt(len(d))
    mean = float(d.mean())
    return mean - half, mean + half


@lru_cache(maxsize=1024)
def _critical(alpha: float, n: int) -> float:
    return float(stats.t.isf(alpha / 2, n - 1))


def bootstrap_interval(differences: Sequence[float], level: float) -> Interval:
    """Quantiles of the mean of n differences drawn again with replacement (Efron 1979, percentile method).

    At n = 3 to 8 it is too narrow: it knows nothing beyond the smallest and the largest difference, and its spread is
    sqrt((n - 1) / n) of the standard error, without Student's allowance for a variance that is guessed. It stands
    beside the t interval to show what the normal law adds; no verdict rests on it.
    """
    d = np.asarray(differences, dtype=float)
    if np.ptp(d) == 0:
        return float(d[0]), float(d[0])
    rng = np.random.default_rng(0)
    found = stats.bootstrap((d,), np.mean, confidence_level=level, n_resamples=9999, method="percentile", rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def pooled_sd(groups: Sequence[Sequence[float]]) -> tuple[float | None, int]:
    """sqrt(sum (n_i - 1) s_i^2 / sum (n_i - 1)) over groups of finite values, and its degrees of freedom.

    Groups that share their seeds are correlated, so the degrees of freedom are somewhat flattered.
    """
    finite = [[value for value in group if math.isfinite(value)] for group in groups]
    finite = [group for group in finite if len(group) > 1]
    df = sum(len(group) - 1 for group in finite)
    if not df:
        return None, 0
    return math.sqrt(sum((len(group) - 1) * float(np.var(group, ddof=1)) for group in finite) / df), df


def paired(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """value - baseline where both have a finite one."""
    both = zip(values, baseline, strict=False)  # a finalist whose case was clear has fewer
    return [value - base for value, base in both if math.isfinite(value) and math.isfinite(base)]


def diverged(values: Sequence[float], baseline: Sequence[float]) -> int:
    """On how many seeds a finalist diverged (inf) where the baseline did not."""
    return sum(value == math.inf and math.isfinite(base) for value, base in zip(values, baseline, strict=False))


@dataclass(frozen=True)
class Rule:
    """What may be said of `count` finalists on `seeds` seeds, jointly at `level`, at a look after any seed.

    A value is the objective of one seed, lower is better: inf where the training diverged, nan where it is missing.
    """

    count: int
    seeds: int
    level: float

    @cached_property
    def levels(self) -> dict[int, float]:
        """Pairs so far -> two-sided level of the test of one finalist there."""
        return nominal_levels(self.seeds, (1 - self.level) / self.count)

    def interval(self, differences: Sequence[float]) -> Interval | None:
        """The repeated confidence interval of the mean difference; None with too few pairs."""
        alpha = self.levels.get(len(differences))
        return None if alpha is None else t_interval(differences, 1 - alpha)

    def verdict(self, values: Sequence[float], baseline: Sequence[float]) -> str:
        """better or worse where the interval excludes 0, else no difference shown.

        A finalist that diverged where the baseline did not is worse: its mean is infinite. A baseline that diverged
        makes nobody better: that seed has no pair.
        """
        if diverged(values, baseline):
            return WORSE
        found = self.interval(paired(values, baseline))
        if found is None:
            return OPEN
        return BETTER if found[1] < 0 else WORSE if found[0] > 0 else OPEN

    def settled(self, values: Sequence[float], baseline: Sequence[float]) -> bool:
        """Whether a finalist need not be trained on further seeds: only where its case is clear.

        Nobody is given up as hopeless. It would not raise the error and costs hardly any power, but after three seeds
        the interval is several times as wide as after all of them (benchmarks/README.md), and "no difference shown"
        is worth no more than its interval.
        """
        return self.verdict(values, baseline) != OPEN


def course(
    rule: Rule, seeds: Sequence[int], train: Callable[[Sequence[tuple[int, int]]], Sequence[float]]
) -> list[list[float]]:
    """Train arms on seeds, stop each finalist whose case is clear; the values of each arm by seed.

    Arm 0 is the baseline, which goes on while any finalist does; 1 to rule.count are the finalists. `train` is given
    all the (arm, seed) up to the next look at once. All looks are after whole seeds, so they are paired and complete.
    """
    values: list[list[float]] = [[] for _ in range(rule.count + 1)]
    going = list(range(1, rule.count + 1))
    looks = [list(seeds[:FIRST_LOOK]), *([seed] for seed in seeds[FIRST_LOOK:])]
    for fresh in looks:
        if not going:
            break
        asked = [(arm, seed) for seed in fresh for arm in (0, *going)]
        for (arm, _), value in zip(asked, train(asked), strict=True):
            values[arm].append(value)
        if len(values[0]) >= FIRST_LOOK:
            going = [arm for arm in going if not rule.settled(values[arm], values[0])]
    return values

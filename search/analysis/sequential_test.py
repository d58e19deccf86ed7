"""Is one config better than another? Paired differences over few seeds, several looks, several finalists, some images.

Seeds: the seed-by-seed differences d_1..d_n are taken as normal with an unknown variance, so
mean(d) / (sd(d) / sqrt(n)) has Student's t with n - 1 degrees of freedom, exactly, however small n is. Each finalist
has the variance of its own differences: pooling it over finalists would buy power with the assumption that all configs
scatter alike, which is wrong as soon as they have other learning rates.

Images: all seeds are judged on the same test triples, so what those images favour by chance is in every difference and
no scatter over seeds shows it. Its standard error comes from the differences image by image (`images_error`), and the
two half-widths, each at its own quantile, are joined as the root of the sum of their squares (the variance estimates
recovery of Zou & Donner 2008, doi:10.1002/sim.3095): t_(n-1) for the seeds, the normal's for the images, of
which there are many.

Several finalists share the error evenly (Bonferroni): the intervals hold together, whatever the correlation that the
common baseline brings. Dunnett's exact level for independent arms (Dunnett 1955, doi:10.1080/01621459.1955.10501294)
would be 0.027 instead of 0.025 for two finalists: not worth an assumption.

Several looks share it too, by Lan and DeMets' spending function of O'Brien and Fleming's kind (Lan & DeMets 1983,
doi:10.1093/biomet/70.3.659): little is spent early, and the last look is nearly as sharp as a single one would be.
The intervals are repeated confidence intervals (Jennison & Turnbull 1989, J. R. Stat. Soc. B 51, 305): they cover at
all looks at once, so the one at hand is valid wherever the trainings stop, and for whatever reason.

Divergence has no value that could enter a mean. It is counted, and judged by an exact test at a level of its own.

What this cannot see: a bad seed so rare that the few have none. Whoever calls a config better with probability q that
is better by one sd on every seed must call one better with at least q (1 - p)^n that is so on all but a part p of the
seeds, on which it is bad enough to be no better in the mean: the data are the same. So the intervals speak of the
typical seed, and the worst one is shown beside them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

BETTER, WORSE, OPEN = VERDICTS = ("better", "worse", "no difference shown")
FIRST_LOOK = 3  # seeds; with two the interval has one degree of freedom and excludes nothing
DRAWS = 1_000_000
LEVELS = 16  # groups of noise levels within which the differences of images are compared

Interval = tuple[float, float]


def alpha_spent(alpha: float, share: float) -> float:
    """2 - 2 Phi(z_(alpha/2) / sqrt(share)): the error spent when `share` of the seeds are there."""
    return float(2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(share)))


@lru_cache(maxsize=64)
def nominal_levels(seeds: int, alpha: float) -> dict[int, float]:
    """Seeds so far -> the two-sided level of the t test there, for looks from FIRST_LOOK to `seeds`.

    Chosen so that equal arms have crossed by the n-th seed with probability alpha_spent(alpha, n / seeds), alpha in
    all. The t statistics of one sequence of normal differences depend on no unknown, so their joint law is simulated
    (1,000,000 sequences, keyed: the same numbers every time); the first level is what is spent there, exactly.
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
        now = alpha_spent(alpha, n / seeds)
        t = np.abs(total) / np.sqrt(n * (squares - total**2 / n) / (n - 1))
        count = max(1, round((now - before) * DRAWS))
        bound = float(np.partition(t, -count)[-count])
        levels[n] = float(2 * stats.t.sf(bound, n - 1)) if levels else now
        going = t < stats.t.isf(levels[n] / 2, n - 1)
        total, squares, before = total[going], squares[going], now
    return levels


def mean_interval(values: Sequence[float], alpha: float, images: float = 0.0) -> Interval:
    """mean -+ sqrt((t_(n-1) sd / sqrt(n))^2 + (z images)^2), wrong with probability `alpha`, two-sided; n > 1.

    images: the standard error that the images bring; 0: Student's interval.
    """
    x = np.asarray(values, dtype=float)
    of_seeds = _critical(alpha, len(x)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    half = math.hypot(of_seeds, _critical(alpha, None) * images)
    mean = float(x.mean())
    return mean - half, mean + half


@lru_cache(maxsize=1024)
def _critical(alpha: float, n: int | None) -> float:
    """The two-sided quantile of Student's t with n - 1 degrees of freedom; None: the normal's."""
    return float(stats.norm.isf(alpha / 2) if n is None else stats.t.isf(alpha / 2, n - 1))


def images_error(losses: NDArray[np.float64], image: NDArray[np.int64]) -> float:
    """The standard error of the mean of triples' losses (or of their differences) over other images: (m,), (m,).

    The triples stand in the order of their noise level, which other images would have too: the mean of each of LEVELS
    groups is taken off, and what is left is summed image by image, since one image may have several triples.
    sqrt(N / (N - 1) sum_i (sum over the triples of image i)^2) / m, N images.
    """
    m, left = len(losses), losses - losses.mean()
    groups = min(LEVELS, m // 8)
    for part in np.array_split(np.arange(m), groups) if groups > 1 else []:
        left[part] = (losses[part] - losses[part].mean()) * math.sqrt(len(part) / (len(part) - 1))
    sums = np.bincount(image, left)
    count = len(np.unique(image))
    return math.sqrt(count / (count - 1) * float((sums**2).sum())) / m if count > 1 else math.inf


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


def paired(values: Sequence[float], others: Sequence[float]) -> list[tuple[float, float]]:
    """The pairs in which both are finite; one of the two may have been trained on fewer seeds."""
    both = zip(values, others, strict=False)
    return [(value, other) for value, other in both if math.isfinite(value) and math.isfinite(other)]


def differences(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """value - other of the pairs."""
    return [value - other for value, other in paired(values, others)]


def divergences(values: Sequence[float], others: Sequence[float]) -> tuple[int, int, int, float]:
    """How often each diverged (inf), of how many seeds that both have, and Fisher's exact two-sided p of the counts.

    Seeds without an outcome (nan) are in neither count. Where the two tend to diverge on the same seeds the test says
    less than it might: it errs on the side of no difference.
    """
    both = [pair for pair in zip(values, others, strict=False) if not any(map(math.isnan, pair))]
    mine, theirs = sum(a == math.inf for a, _ in both), sum(b == math.inf for _, b in both)
    if mine == theirs:
        return mine, theirs, len(both), 1.0
    table = [[mine, len(both) - mine], [theirs, len(both) - theirs]]
    return mine, theirs, len(both), float(stats.fisher_exact(table).pvalue)


@dataclass(frozen=True)
class SequentialTest:
    """What may be said of `count` comparisons on `seeds` seeds, jointly at `level`, at a look after any seed.

    A value is the loss of one seed, lower is better: inf where the training diverged, nan where it is missing.
    """

    count: int
    seeds: int
    level: float

    @cached_property
    def levels(self) -> dict[int, float]:
        """Pairs so far -> two-sided level of the test of one comparison there."""
        return nominal_levels(self.seeds, (1 - self.level) / self.count)

    def interval(self, found: Sequence[float], images: float = 0.0) -> Interval | None:
        """The repeated confidence interval of the mean of differences; None with too few pairs."""
        alpha = self.levels.get(len(found))
        return None if alpha is None else mean_interval(found, alpha, images)

    def verdict(self, values: Sequence[float], others: Sequence[float], images: float = 0.0) -> str:
        """better or worse where the interval excludes 0, else no difference shown."""
        found = self.interval(differences(values, others), images)
        if found is None:
            return OPEN
        return BETTER if found[1] < 0 else WORSE if found[0] > 0 else OPEN

    def diverges(self, values: Sequence[float], others: Sequence[float]) -> str:
        """worse where it diverges more often than the other, better where less often, else no difference shown.

        Fisher's exact test at (1 - level) / count, asked once, when nothing more is trained.
        """
        mine, theirs, _, p = divergences(values, others)
        if p > (1 - self.level) / self.count:
            return OPEN
        return WORSE if mine > theirs else BETTER

    def final(self, values: Sequence[float], others: Sequence[float], images: float = 0.0) -> str:
        """The verdict when nothing more is trained: divergence first, since a mean leaves it out."""
        often = self.diverges(values, others)
        return self.verdict(values, others, images) if often == OPEN else often

    def power(self, shift: float, images: float = 0.0) -> float:
        """How often all the seeds show a difference, both figures in standard deviations of one seed's difference.

        Simulated, 20,000 times. Of the last look alone, so a little too low.
        """
        n, rng = max(self.levels), np.random.default_rng(0)
        x = shift + rng.standard_normal((20_000, n))
        of_seeds = _critical(self.levels[n], n) * x.std(axis=1, ddof=1) / math.sqrt(n)
        half = np.hypot(of_seeds, _critical(self.levels[n], None) * images)
        return float((x.mean(axis=1) + images * rng.standard_normal(len(x)) > half).mean())


def run_sequential(
    seeds: Sequence[int],
    always: Sequence[int],
    asked: Sequence[int],
    train: Callable[[Sequence[tuple[int, int]]], object],
    decided: Callable[[int], bool],
) -> None:
    """Train arms on seeds, and stop each one that is asked about when its case is settled.

    The arms of `always` are compared with, and go on while any that is asked about does; one may be both. `train` is
    given all the (arm, seed) up to the next look at once; after it `decided` is asked of each arm that is left. All
    looks are after whole seeds, so they are paired and complete. Nobody is given up as hopeless: it would not raise the
    error and costs hardly any power, but "no difference shown" is worth no more than its interval, which would be
    several times as wide.
    """
    going = list(asked)
    for fresh in [seeds[:FIRST_LOOK], *([seed] for seed in seeds[FIRST_LOOK:])]:
        if not going:
            return
        train([(arm, seed) for seed in fresh for arm in dict.fromkeys((*always, *going))])
        going = [arm for arm in going if not decided(arm)]

"""Whether a cheaper look agrees with the full one: rungs with the end of a training, one width with another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, optimize, special, stats

from denoise.config.overrides import Overrides
from search.tracking.record import Record

FEW = 10  # pairs; below no interval is given
BEST, CASES = 0.1, (6, 7)  # a look can be trusted where it keeps a config of the final best tenth in 6 of 7 cases
WIDTH = 0.5  # from this rank correlation on the better one of two configs is so at both widths in 2 of 3 cases
HALF = 0.5  # what is taken to go on where a pruner has no share
DRAWS = 1000


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of the objective in two places, over what has both, with a 95 % interval.

    seen: how many have the first; pairs: how many have both. correlation, low and high: None where there are too few.
    kept: which part goes on there, 1 where nothing is stopped, None where that is not known.
    """

    cheap: str
    full: str
    seen: int
    pairs: int
    correlation: float | None = None
    low: float | None = None
    high: float | None = None
    kept: float | None = None

    @property
    def needed(self) -> float:
        """The rank correlation from which a look that keeps so many can be trusted."""
        return needed(HALF if self.kept is None else self.kept)

    @property
    def answer(self) -> str:
        """can be, cannot or too few trials to say: whether the cheap look can be trusted to stop trials."""
        return self.against(self.needed) if self.kept != 1 else "nothing is stopped"

    def against(self, threshold: float) -> str:
        """can be, cannot or too few trials to say: whether the correlation is at least so high."""
        if self.low is not None and self.low >= threshold:
            return "can be"
        return "cannot" if self.high is not None and self.high < threshold else "too few trials to say"


def keeps(correlation: float, kept: float) -> float:
    """P(x among the best `kept` | y among the best tenth), x and y normal with a rank correlation, by quadrature."""
    r = 2 * math.sin(math.pi * correlation / 6)  # Spearman's of a bivariate normal is 6 / pi asin(r / 2)
    edge, spread = special.ndtri(kept), math.sqrt(1 - r * r)

    def inside(place: float) -> float:
        return float(special.ndtr((edge - r * special.ndtri(place)) / spread))

    return float(integrate.quad(inside, 0, BEST)[0] / BEST)


@cache
def needed(kept: float) -> float:
    """The rank correlation at which keeps() is 6 of 7; inf where so few go on that none is enough, -1 where any is."""
    share, ends = CASES[0] / CASES[1], (-0.9999, 0.9999)
    if keeps(ends[1], kept) < share or keeps(ends[0], kept) >= share:
        return math.inf if kept < share else -1.0
    return float(optimize.brentq(lambda rho: keeps(rho, kept) - share, *ends, xtol=1e-4))


def goes_on(pruner: Mapping[str, Any], steps: Sequence[int]) -> dict[int, float] | None:
    """Which part of the trials that reached a step a pruner of conf/pruner lets go on there; None: it has no share.

    A funnel keeps n share first / s of all n at step s, so at its first look that part, at each later one
    s_before / s of those that came there. A halving keeps 1 / factor at the first look from each of its rungs on; in
    a hyperband some brackets have no rung there. A percentile is one of the complete trials.
    """
    name, found = str(pruner["_target_"]).rpartition(".")[2], dict.fromkeys(steps, 1.0)
    if name == "FunnelPruner":
        looks = [step for step in steps if step >= pruner["first"]]
        for before, step in zip([None, *looks], looks, strict=False):
            found[step] = before / step if before else pruner["share"] * pruner["first"] / step
    elif name in ("SuccessiveHalvingPruner", "Hyperband"):
        rung = pruner["min_resource"]
        for step in steps:
            while rung <= step:
                found[step], rung = found[step] / pruner["reduction_factor"], rung * pruner["reduction_factor"]
    elif name in ("MedianPruner", "PercentilePruner"):
        part = pruner.get("percentile", 50.0) / 100
        found |= {step: part for step in steps if step >= pruner.get("n_warmup_steps", 0)}
    elif name != "NopPruner":
        return None
    return found


def rungs(
    curves: Mapping[int, Mapping[int, float]], seed: int = 0, pruner: Mapping[str, Any] | None = None
) -> list[Agreement]:
    """Compare each step's objective with the last step's; `curves`: trial -> {step: objective}; the pruner's config."""
    steps = sorted({step for curve in curves.values() for step in curve})
    kept = (goes_on(pruner, steps) if pruner is not None else None) or {}
    found = []
    for step in steps[:-1]:
        seen = [curve for curve in curves.values() if step in curve]
        both = [(curve[step], curve[steps[-1]]) for curve in seen if steps[-1] in curve]
        each = compare(both, f"step {step}", f"step {steps[-1]}", len(seen), seed)
        found.append(replace(each, kept=kept.get(step)))
    return found


def transfer(small: Sequence[Record], large: Sequence[Record], path: str = "model.width", seed: int = 0) -> Agreement:
    """Compare the objectives of configs that were trained at two values of `path`, a width, and are else the same."""

    def split(record: Record) -> tuple[frozenset[str], str]:
        mine = Overrides(record.overrides).only((path,))
        return frozenset(record.overrides) - frozenset(mine), mine[0] if mine else f"{path} as it was"

    ended = [[r for r in each if r.outcome == "complete" and r.value is not None] for each in (small, large)]
    theirs = {split(record)[0]: record.value for record in ended[1]}
    both = [(r.value, theirs[split(r)[0]]) for r in ended[0] if split(r)[0] in theirs]
    cheap, full = (split(each[0])[1] if each else path for each in ended)
    return compare([(a, b) for a, b in both if a is not None and b is not None], cheap, full, len(ended[0]), seed)


def compare(both: Sequence[tuple[float, float]], cheap: str, full: str, seen: int, seed: int = 0) -> Agreement:
    """Spearman's correlation of pairs with a percentile bootstrap over them; nothing where all of a side is equal."""
    x = np.array([pair for pair in both if np.isfinite(pair).all()], dtype=float).reshape(-1, 2)
    if len(x) < 3 or np.ptp(x[:, 0]) == 0 or np.ptp(x[:, 1]) == 0:
        return Agreement(cheap, full, seen, len(x))
    correlation = float(spearman(x[None])[0])
    if len(x) < FEW:
        return Agreement(cheap, full, seen, len(x), correlation)
    draws = np.random.default_rng(seed).integers(len(x), size=(DRAWS, len(x)))
    low, high = np.nanquantile(spearman(x[draws]), [0.025, 0.975])
    return Agreement(cheap, full, seen, len(x), correlation, float(low), float(high))


def spearman(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The correlation of the ranks of (..., n, 2) pairs over n, ties at their mean rank; nan for a constant side."""
    ranks = stats.rankdata(pairs, axis=-2)
    ranks = ranks - ranks.mean(axis=-2, keepdims=True)
    scale = np.sqrt((ranks**2).sum(axis=-2).prod(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = ranks.prod(axis=-1).sum(axis=-1) / scale
    return result

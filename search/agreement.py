"""Whether a cheaper look agrees with the full one: rungs with the end of a training, one width with another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy import stats

from search.record import Record

FEW = 10  # pairs; below no interval is given
TRUST = 0.5  # at this correlation a halving keeps a config of the final best tenth in 6 of 7 cases (bivariate normal)
DRAWS = 1000


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of the objective in two places, over what has both, with a 95 % interval.

    seen: how many have the first; pairs: how many have both. correlation, low and high: None where there are too few.
    """

    cheap: str
    full: str
    seen: int
    pairs: int
    correlation: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def answer(self) -> str:
        """can be, cannot or too few trials to say: whether the cheap look can be trusted."""
        if self.low is not None and self.low >= TRUST:
            return "can be"
        return "cannot" if self.high is not None and self.high < TRUST else "too few trials to say"


def rungs(curves: Mapping[int, Mapping[int, float]], seed: int = 0) -> list[Agreement]:
    """Compare each step's objective with the last step's; `curves`: trial -> {step: objective}."""
    steps = sorted({step for curve in curves.values() for step in curve})
    found = []
    for step in steps[:-1]:
        seen = [curve for curve in curves.values() if step in curve]
        both = [(curve[step], curve[steps[-1]]) for curve in seen if steps[-1] in curve]
        found.append(compare(both, f"step {step}", f"step {steps[-1]}", len(seen), seed))
    return found


def transfer(small: Sequence[Record], large: Sequence[Record], path: str = "model.width", seed: int = 0) -> Agreement:
    """Compare the objectives of configs that were trained at two values of `path`, a width, and are else the same."""

    def split(record: Record) -> tuple[frozenset[str], str]:
        mine = [text for text in record.overrides if text.lstrip("+").partition("=")[0] == path]
        return frozenset(set(record.overrides) - set(mine)), mine[0] if mine else f"{path} as it was"

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


def table(agreements: Sequence[Agreement]) -> Table:
    """Rung, trials with both values, correlation with its interval, whether it can be trusted."""
    title = f"rank correlation with {agreements[0].full}" if agreements else "rank correlation"
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold", pad_edge=False)
    shown.add_column("at")
    for name in ("trials", "Spearman", "95 % interval"):
        shown.add_column(name, justify="right")
    shown.add_column("trusted")
    for each in agreements:
        interval = "-" if each.low is None or each.high is None else f"{each.low:.2f} to {each.high:.2f}"
        shown.add_row(
            each.cheap,
            f"{each.pairs} of {each.seen}",
            "-" if each.correlation is None else f"{each.correlation:.2f}",
            interval,
            each.answer,
        )
    return shown


def sentences(agreements: Sequence[Agreement]) -> list[str]:
    """What pruning does to the figures, and last whether early stopping can be trusted here."""
    if not agreements:
        return ["Early stopping: every trial was looked at once, so nothing can be said."]
    said = []
    first = agreements[0]
    lost = first.seen - first.pairs
    if lost:
        said.append(
            f"{lost} of the {first.seen} trials at {first.cheap} did not come to {first.full}: only what was let pass "
            "is in these figures, which usually makes a correlation look smaller than it is."
        )
    if first.answer == "cannot":
        later = next((each for each in agreements if each.answer == "can be"), None)
        said.append(f"Early stopping cannot be trusted here at {first.cheap}: {_figures(first)}.")
        if later is not None:
            said[-1] += f" From {later.cheap} on it can be ({_figures(later)}): let the pruner begin at that step "
            said[-1] += "(pruner.first of funnel, pruner.min_resource of the halving ones)."
    elif first.answer == "can be":
        said.append(f"Early stopping can be trusted here, from {first.cheap} on: {_figures(first)}.")
    else:
        said.append(f"Whether early stopping can be trusted here: too few trials to say; {_figures(first)}.")
    return said


def width_sentence(agreement: Agreement) -> str:
    """Whether what is found at one width holds at another."""
    verdict = {"can be": "holds", "cannot": "does not hold"}.get(agreement.answer, "may hold or not, too few to say,")
    return f"What is found at {agreement.cheap} {verdict} at {agreement.full}: {_figures(agreement)}."


def _figures(agreement: Agreement) -> str:
    over = f"over {agreement.pairs} trials that have both"
    if agreement.correlation is None:
        return f"no rank correlation {over}"
    if agreement.low is None or agreement.high is None:
        return f"rank correlation {agreement.correlation:.2f} {over}, no interval below {FEW}"
    return f"rank correlation {agreement.correlation:.2f} ({agreement.low:.2f} to {agreement.high:.2f}, 95 %) {over}"

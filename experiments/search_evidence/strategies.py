"""The strategies that are replayed: a sampler and a pruner each, and what one search with them costs and finds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from experiments.search_evidence.density import Group
from experiments.search_evidence.pool import Pool
from experiments.search_evidence.pruners import Funnel, Halving, Hyperband, Never, Percentile, Pruner
from experiments.search_evidence.samplers import Random, Sampler, Tpe, partition

REFERENCE, STOCK = "tpe", "stock_halving"


@dataclass(frozen=True)
class Strategy:
    """A way to search. `how` divides the parameters as in `partition`; "" draws at random."""

    says: str
    how: str = ""
    startup: int = 10
    first: int = 0  # the first rung of a halving, in steps
    factor: int = 0
    share: float = 0.0  # of a funnel
    other: str = ""  # another pruner
    waits: bool = False  # the halving stops nothing before a trial was complete
    starts: bool = False  # the pool's known starts first
    failures: bool = False  # the sampler learns of failed trials, as the worst of all
    seen: tuple[int | None, int | None] = (None, None)  # the sampler looks at the best and the latest trials alone

    def pruner(self, pool: Pool, study: str) -> Pruner:
        """A new pruner; `study` is the name by which a hyperband divides its trials."""
        if self.other == "hyperband":
            return Hyperband(pool.every, self.first, self.factor, pool.steps, study)
        if self.other == "median":
            return Percentile(50.0)
        if self.share:
            return Funnel(self.share)
        return Halving(pool.every, self.first, self.factor, waits=self.waits) if self.factor else Never()

    def sampler(self, groups: dict[str, list[Group]], rng: np.random.Generator) -> Sampler:
        """A new sampler."""
        if not self.how:
            return Random(rng)
        best, latest = self.seen
        return Tpe(groups[self.how], rng, self.startup, best=best, latest=latest)


def catalogue() -> Iterator[tuple[str, Strategy]]:
    """All strategies by name."""
    yield "random", Strategy("random, no pruning")
    yield "tpe", Strategy("TPE, each parameter alone (multivariate=False), no pruning", "independent")
    yield "tpe_default", Strategy("TPESampler(), no pruning", "intersection")
    yield "tpe_group", Strategy("TPE multivariate and by groups, no pruning", "group")
    for factor in (2, 3, 4):
        for first in (16, 32, 64):
            says = f"TPE by groups, halving by {factor} from step {first}"
            yield f"halving_{factor}_{first}", Strategy(says, "group", first=first, factor=factor)
    says = "TPE by groups, hyperband by 3 from step 16"
    yield "hyperband", Strategy(says, "group", first=16, factor=3, other="hyperband")
    stock = "TPESampler(), SuccessiveHalvingPruner()"
    says = f"{stock}, the looks numbered"  # auto is then the first look, as it is 16 of 128 steps
    yield STOCK, Strategy(says, "intersection", first=16, factor=4, waits=True)
    says = f"{stock}, the looks at optimizer steps"  # auto is then 1 step of 128
    yield "stock_halving_steps", Strategy(says, "intersection", first=1, factor=4, waits=True)
    yield "median", Strategy("TPE by groups, median pruning", "group", other="median")
    yield "before", Strategy("TPE by groups, 8 random trials, halving by 2 from step 16", "group", 8, 16, 2)
    alone = "TPE, each parameter alone"
    for factor in (3, 4):
        says = f"{alone}, halving by {factor} from step 16"
        yield f"alone_halving_{factor}_16", Strategy(says, "independent", first=16, factor=factor)
    yield "random_funnel", Strategy("random, funnel of 1/4", share=0.25)
    yield "group_funnel", Strategy("TPE by groups, funnel of 1/4", "group", share=0.25)
    yield "default_funnel", Strategy("TPESampler(), funnel of 1/4", "intersection", share=0.25)
    sees = f"{alone}, which learns of failed trials"
    for name, share in (("funnel_fifth", 0.2), ("funnel_third", 1 / 3), ("funnel", 0.25)):
        yield name, Strategy(f"{sees}, funnel of 1/{round(1 / share)}", "independent", 8, share=share, failures=True)
    says = f"{sees}, funnel of 1/4, the baseline and the known starts first"
    yield "funnel_starts", Strategy(says, "independent", 8, share=0.25, starts=True, failures=True)
    yield "funnel_blind", Strategy(f"{alone}, which does not, funnel of 1/4", "independent", 8, share=0.25)
    for best, latest in ((25, 75), (75, 225)):
        says = f"{sees} and of the best {best} and the latest {latest} alone, funnel of 1/4"
        made = Strategy(says, "independent", 8, share=0.25, failures=True, seen=(best, latest))
        yield f"funnel_sees_{best + latest}", made


STRATEGIES = dict(catalogue())


@dataclass(frozen=True)
class Search:
    """One search on the pool: for each trial the row, the compute spent up to its end, and whether it was complete."""

    rows: np.ndarray
    cost: np.ndarray
    complete: np.ndarray
    values: np.ndarray  # the last value seen, nan for a failed trial


def search(
    pool: Pool,
    strategy: Strategy,
    groups: dict[str, list[Group]],
    rng: np.random.Generator,
    view: int,
    among: np.ndarray,
    enough: Callable[[int, int], bool],
    study: str = "",
) -> Search:
    """Search as search/study/loop.py does: one trial after another, stopped at any rung, never resumed.

    `view` is the seed whose values are seen, `among` says which rows may be tried, each once, the pool's starts before
    all others. After a complete trial and at each trial's end `enough(row or -1, cost)` is asked whether to stop.
    """
    free, pruner, starts = among.copy(), strategy.pruner(pool, study), list(pool.starts)
    brackets = len(pruner.halvings) if isinstance(pruner, Hyperband) else 1
    samplers = [strategy.sampler(groups, rng) for _ in range(brackets)]
    found: list[tuple[int, int, bool, float]] = []
    cost = 0
    while starts or free.any():
        number = len(found)
        sampler = samplers[pruner.bracket(number) if isinstance(pruner, Hyperband) else 0]
        row = starts.pop(0) if starts else sampler.ask(np.flatnonzero(free))
        free[row] = False
        reached, complete = train(pool.curves[view, row], number, pruner)
        seen = pool.curves[view, row, :reached]
        failed = len(seen) == 0 or math.isnan(seen[-1])
        cost += int(pool.failed[view, row]) if failed else reached * pool.every
        if failed and strategy.failures:
            sampler.tell(number, row, 0, math.inf, False)
        if not failed:
            sampler.tell(number, row, reached * pool.every, float(seen[-1]), complete)
        found.append((row, cost, complete, float(seen[-1]) if not failed else math.nan))
        if enough(row if complete else -1, cost):
            break
    rows, costs, completes, values = (np.array(column) for column in zip(*found, strict=True))
    return Search(rows, costs, completes, values)


def train(curve: np.ndarray, number: int, pruner: Pruner) -> tuple[int, bool]:
    """Go along a curve until the pruner stops it, it fails or it ends: the values seen, and whether it is complete."""
    for rung in range(len(curve)):
        seen = curve[: rung + 1]
        if math.isnan(seen[-1]):
            pruner.ended(number, seen, False)
            return rung + 1, False
        if rung + 1 < len(curve) and pruner.stops(number, seen):
            pruner.ended(number, seen, False)
            return rung + 1, False
    pruner.ended(number, curve, True)
    return len(curve), True


def groups_of(pool: Pool) -> dict[str, list[Group]]:
    """The groups of parameters, for each way to divide them."""
    return {how: partition(pool, how) for how in ("independent", "intersection", "group")}

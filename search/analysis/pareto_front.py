"""Quality against a cost: the trials that none is better than at their cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.space.option import difference
from search.tracking.record import Record


@dataclass(frozen=True)
class Front:
    """`best`: the trials that none is better than at their cost, cheapest first; `behind`: the other complete ones."""

    cost: str
    best: list[Record]
    behind: list[Record]
    baseline: Record | None

    @property
    def all(self) -> list[Record]:
        """Every complete trial."""
        return [*self.best, *self.behind]


def find(records: Sequence[Record], cost: str, baseline: Sequence[str]) -> Front:
    """Divide the complete trials by a cost metric. Of equal ones the first trial is on the front."""
    done = [one for one in records if one.outcome == "complete" and one.value is not None and cost in one.metrics]
    done.sort(key=lambda one: (one.metrics[cost], one.value, one.number))
    best: list[Record] = []
    for one in done:
        if not best or loss_of(one) < loss_of(best[-1]):
            best.append(one)
    chosen = {one.run_id for one in best}
    first = next((one for one in done if difference(one.overrides, baseline) == "baseline"), None)
    return Front(cost, best, [one for one in done if one.run_id not in chosen], first)


def spread(front: Front) -> list[Record]:
    """The front as it is confirmed: its best, its cheapest that is no worse than the baseline, what lies between.

    After them those that are worse than the baseline, the best first. Any number of the first ones spans the front.
    """
    limit = float("inf") if front.baseline is None else loss_of(front.baseline)
    good = [one for one in front.best if loss_of(one) <= limit]
    order: list[int] = [len(good) - 1, 0] if len(good) > 1 else list(range(len(good)))
    gaps = [(0, len(good) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    worse = sorted((one for one in front.best if loss_of(one) > limit), key=loss_of)
    return [*(good[i] for i in order), *worse]


def loss_of(one: Record) -> float:
    assert one.value is not None
    return one.value

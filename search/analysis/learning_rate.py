"""Which learning rates are good for an option, and whether they touch the edge of their domain."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from denoise.config.overrides import Overrides
from search.space.option import option_of
from search.tracking.record import Record

RATES = 3  # different learning rates are needed to speak of a range
EDGE = 0.05  # of the domain's width: as near as this is at its edge


@dataclass(frozen=True)
class LrRange:
    """The learning rates of the trials within the tolerance of their option's best; edge: low, high, both or empty."""

    low: float
    high: float
    decades: float
    edge: str = ""


def lr_range(
    group: Sequence[Record],
    baseline: Sequence[str],
    worst: float,
    domains: Mapping[str, Mapping[str, Any]] | None = None,
) -> LrRange | None:
    """The learning rates of the complete trials whose objective is at most `worst`, and whether they touch an edge.

    None where fewer than RATES completed, or where the trials are of several optimizers, whose rates do not
    compare.
    """
    tried: list[tuple[float, float]] = []
    optimizers: set[str] = set()
    for record in group:
        try:
            rate = float(Overrides(record.overrides).values["optimizer.lr"])
        except (KeyError, ValueError):
            continue
        optimizers.add(option_of(record.overrides, "optimizer", baseline))
        if record.outcome == "complete" and record.value is not None and rate > 0:
            tried.append((rate, record.value))
    good = [rate for rate, value in tried if value <= worst]
    if len(optimizers) != 1 or len({rate for rate, _ in tried}) < RATES or not good:
        return None
    low, high = min(good), max(good)
    domain = (domains or {}).get(f"optimizer.{next(iter(optimizers))}.lr") or (domains or {}).get("optimizer.lr")
    return LrRange(low, high, math.log10(high / low), _edge(low, high, domain) if domain and "low" in domain else "")


def _edge(low: float, high: float, domain: Mapping[str, Any]) -> str:
    place = math.log10 if domain.get("log") else float
    left, right = place(domain["low"]), place(domain["high"])
    near = EDGE * (right - left)
    at_low, at_high = place(low) <= left + near, place(high) >= right - near
    return "both" if at_low and at_high else "low" if at_low else "high" if at_high else ""

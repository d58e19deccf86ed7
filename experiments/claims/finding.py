"""What an experiment finds about a claim: figures against what the claim makes one expect, tables, a plot."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.claims.plot import Plot

HOLDS, PART, NOT = "holds", "holds in part", "does not hold as written"


@dataclass(frozen=True)
class Check:
    """A figure, and the bounds between which the claim as it is written puts it."""

    figure: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def holds(self) -> bool:
        """Tell whether the value is what the claim makes one expect; NaN never is."""
        return self.low <= self.value <= self.high

    @property
    def expected(self) -> str:
        """The bounds in words."""
        if self.low == self.high:
            return short(self.low)
        if self.low == -math.inf:
            return f"at most {short(self.high)}"
        if self.high == math.inf:
            return "never" if self.low == math.inf else f"at least {short(self.low)}"
        return f"{short(self.low)} to {short(self.high)}"

    def as_json(self) -> dict[str, Any]:
        """What is kept of it."""
        value = self.value if math.isfinite(self.value) else str(self.value)
        return {"figure": self.figure, "value": value, "expected": self.expected, "holds": self.holds}


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head, with a sentence before them."""

    said: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_json(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"said": self.said, "head": list(self.head), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True)
class Finding:
    """All that is found about a claim; `values`: the figures of each seed behind the tables, as plain data."""

    checks: Sequence[Check]
    tables: Sequence[Table]
    plot: Plot
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Holds where every figure is as expected, in part where some are."""
        held = sum(check.holds for check in self.checks)
        return HOLDS if held == len(self.checks) else PART if held else NOT

    def as_json(self) -> dict[str, Any]:
        """What is kept of it, but for the plot."""
        return {
            "verdict": self.verdict,
            "checks": [check.as_json() for check in self.checks],
            "tables": [table.as_json() for table in self.tables],
            "values": self.values,
        }


def short(value: float) -> str:
    """A value to three digits: more of them belong to one machine."""
    return "never" if value == math.inf else f"{value:.3g}"


def geometric(values: Sequence[float]) -> float:
    """exp(mean(log v)) of values that are not negative; 0 where one of them is."""
    return math.exp(sum(map(math.log, values)) / len(values)) if min(values) > 0 else 0.0


def over_seeds(values: Sequence[float]) -> str:
    """The geometric mean of positive values, and their least and largest."""
    return f"{geometric(values):.2g} ({min(values):.2g} to {max(values):.2g})"


def mean_spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the standard deviation (n - 1) of values."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1))


def pm(values: Sequence[float], digits: int = 3) -> str:
    """mean ± standard deviation over seeds."""
    mean, spread = mean_spread(values)
    return f"{mean:.{digits}f} ± {spread:.{digits}f}"

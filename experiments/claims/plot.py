"""Line plots as data, so that they can be drawn again without the trainings, and as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from denoise.pictures.figure import COLOURS, blank, label, panel, sheet, styled, svg

if TYPE_CHECKING:
    from matplotlib.axis import Axis as Scale

WIDE, HIGH, LEFT, TOP, GAP = 220, 160, 52, 40, 14  # points


@dataclass(frozen=True)
class Line:
    """A named line through points (x, y); dashed where it is only there to be compared with."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, where they are not to follow the values."""

    name: str
    log: bool = False
    low: float | None = None
    high: float | None = None

    def ends(self, values: Sequence[float]) -> tuple[float, float]:
        """Where the axis ends."""
        known = [v for v in values if math.isfinite(v) and (v > 0 or not self.log)]
        low = self.low if self.low is not None else min(known, default=1.0 if self.log else 0.0)
        high = self.high if self.high is not None else max(known, default=1.0)
        if high - low > 1e-9 * max(abs(low), abs(high)):
            return low, high
        return low, low * 10 if self.log else low + 1


@dataclass(frozen=True)
class Panel:
    """Lines over common axes."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]

    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where both axes end."""
        xs = self.x.ends([v for line in self.lines for v in line.x])
        return xs, self.y.ends([v for line in self.lines for v in line.y])

    def points(self, line: Line) -> np.ndarray:
        """(2, N): where a line is drawn. What lies outside is at the edge, not positive on a log axis at its floor."""
        across, (low, high) = self.ends()
        x, y = np.array(line.x, dtype=float), np.array(line.y, dtype=float)
        y = np.where(y == np.inf, high, y)
        return np.stack([x.clip(*across), y.clip(low, high)])[:, ~np.isnan(y)]


@dataclass(frozen=True)
class Plot:
    """Panels side by side under a title."""

    title: str
    panels: Sequence[Panel]

    def as_json(self) -> dict[str, Any]:
        """What is kept of it: the points that can be told apart when drawn, to four digits."""
        kept = [Panel(p.title, p.x, p.y, [thinned(p, line) for line in p.lines]) for p in self.panels]
        return asdict(Plot(self.title, kept))

    @staticmethod
    def of(kept: Mapping[str, Any]) -> "Plot":
        """Read what as_json wrote."""
        panels = [
            Panel(p["title"], Axis(**p["x"]), Axis(**p["y"]), [Line(**line) for line in p["lines"]])
            for p in kept["panels"]
        ]
        return Plot(kept["title"], panels)


def thinned(panel: Panel, line: Line, least: float = 1.5) -> Line:
    """A line's points that lie at least so many points of the page from the one before, and the last."""
    points = panel.points(line)
    scaled = [
        size * (np.log10(v) if axis.log else v) / (np.diff(np.log10(ends) if axis.log else ends)[0])
        for v, axis, ends, size in zip(points, (panel.x, panel.y), panel.ends(), (WIDE, HIGH), strict=True)
    ]
    kept: list[int] = []
    for i, place in enumerate(zip(*scaled, strict=True)):
        if not kept or i == len(points[0]) - 1 or math.dist(place, (scaled[0][kept[-1]], scaled[1][kept[-1]])) >= least:
            kept.append(i)
    x, y = ([float(f"{v:.4g}") for v in axis[kept]] for axis in points)
    return Line(line.name, x, y, line.dashed)


@styled
def draw(plot: Plot) -> bytes:
    """Draw the panels side by side."""
    most = max((len(one.lines) for one in plot.panels), default=0)
    figure = blank(len(plot.panels) * (LEFT + WIDE + GAP) or 240, TOP + HIGH + 44 + 12 * ((most + 1) // 2))
    sheet(figure).text(8, 15, label(plot.title, 120), weight="bold")
    for i, one in enumerate(plot.panels):
        axes = panel(figure, LEFT + i * (LEFT + WIDE + GAP), TOP, WIDE, HIGH, one.title)
        xs, ys = one.ends()
        for j, line in enumerate(one.lines):
            dash, colour = "--" if line.dashed or j >= len(COLOURS) else "-", COLOURS[j % len(COLOURS)]
            axes.plot(*one.points(line), dash, color=colour, label=label(line.name, 30), linewidth=1.4)
        axes.set(xscale="log" if one.x.log else "linear", yscale="log" if one.y.log else "linear", xlim=xs)
        axes.set_ylim(room(*ys, one.y.log))
        axes.minorticks_off()
        _ticks(axes.xaxis, one.x, xs)
        _ticks(axes.yaxis, one.y, ys)
        axes.set_xlabel(label(one.x.name, 60))
        axes.set_ylabel(label(one.y.name, 40))
        if one.lines:
            axes.legend(loc="upper left", bbox_to_anchor=(-0.12, -0.2), ncols=2, columnspacing=1, labelspacing=0.25)
    return svg(figure, plot.title)


def _ticks(scale: "Scale", axis: Axis, ends: tuple[float, float]) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator

    scale.set_major_locator(FixedLocator(decades(*ends)) if axis.log else MaxNLocator(5))
    scale.set_major_formatter(lambda value, _: name(value))


def room(low: float, high: float, log: bool) -> tuple[float, float]:
    """The ends and a thirtieth more, so that a line at an end is seen whole."""
    if log:
        more = (high / low) ** (1 / 30)
        return low / more, high * more
    return low - (high - low) / 30, high + (high - low) / 30


def decades(low: float, high: float) -> list[float]:
    """About five powers of ten between the ends; 1, 2 and 5 times them where there are fewer than two decades."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if math.log10(high / low) >= 2:
        return [10.0**p for p in range(first, last + 1, max(1, round(math.log10(high / low) / 5)))]
    values = [d * 10.0**p for p in range(first - 1, last + 1) for d in (1, 2, 5)]
    return [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]


def name(value: float) -> str:
    """A tick's value, short."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:g}"

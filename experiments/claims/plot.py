"""Line plots as SVG, written by hand: the same figures give the same bytes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from denoise.pictures.svg import page, text

WIDE, HIGH, LEFT, TOP = 330, 220, 62, 44
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#744210", "#319795", "#4a5568", "#e53e3e")


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
        """Where the axis ends, on its own scale."""
        known = [self.place(v) for v in values if math.isfinite(v) and (v > 0 or not self.log)]
        low = self.place(self.low) if self.low is not None else min(known, default=0.0)
        high = self.place(self.high) if self.high is not None else max(known, default=1.0)
        return low, high if high > low else low + 1

    def place(self, value: float) -> float:
        """A value on the axis's scale."""
        return math.log10(value) if self.log else value

    def ticks(self, low: float, high: float) -> list[tuple[float, str]]:
        """Places and names of about five round values between the ends."""
        if self.log and high - low >= 2:
            stride = max(1, round((high - low) / 5))
            return [
                (float(p), name(10.0**p)) for p in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, stride)
            ]
        if self.log:
            values = [d * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for d in (1, 2, 5)]
            return [(math.log10(v), name(v)) for v in values if low - 1e-9 <= math.log10(v) <= high + 1e-9]
        step = 10.0 ** math.floor(math.log10((high - low) / 4))
        step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 5.5)
        first = math.ceil(low / step - 1e-9)
        return [(i * step, name(i * step)) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Panel:
    """Lines over common axes."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]


def name(value: float) -> str:
    """A tick's value, short."""
    return (
        f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
        if value and not 1e-3 <= abs(value) < 1e5
        else f"{value:g}"
    )


def draw(title: str, panels: Sequence[Panel]) -> bytes:
    """Draw panels side by side; on a logarithmic axis what is not positive lies on its lower end."""
    parts = [text(8, 16, title, weight="bold")]
    for i, panel in enumerate(panels):
        parts += _panel(panel, LEFT + i * (WIDE + LEFT + 8), TOP)
    most = max((len(panel.lines) for panel in panels), default=0)
    return page(LEFT + len(panels) * (WIDE + LEFT + 8) - LEFT + 8, TOP + HIGH + 50 + 14 * ((most + 1) // 2), parts)


def _panel(panel: Panel, x0: int, y0: int) -> list[str]:
    xs = panel.x.ends([v for line in panel.lines for v in line.x])
    ys = panel.y.ends([v for line in panel.lines for v in line.y])

    def across(place: float) -> float:
        return x0 + WIDE * (place - xs[0]) / (xs[1] - xs[0])

    def up(place: float) -> float:
        return y0 + HIGH * (ys[1] - min(max(place, ys[0]), ys[1])) / (ys[1] - ys[0])

    def height(value: float) -> float:
        if value == math.inf:
            return up(ys[1])
        return up(ys[0] if panel.y.log and value <= 0 else panel.y.place(value))

    parts = [text(x0, y0 - 8, panel.title, weight="bold")]
    for place, label in panel.y.ticks(*ys):
        parts.append(f"<path d='M{x0} {up(place):.1f}h{WIDE}' stroke='#ddd'/>")
        parts.append(text(x0 - 6, round(up(place)) + 3, label, "end"))
    for place, label in panel.x.ticks(*xs):
        parts.append(f"<path d='M{across(place):.1f} {y0}v{HIGH}' stroke='#eee'/>")
        parts.append(text(round(across(place)), y0 + HIGH + 13, label, "middle"))
    parts.append(text(x0 + WIDE, y0 + HIGH + 27, f"{panel.x.name} →", "end"))
    parts.append(text(x0, y0 + HIGH + 27, f"↑ {panel.y.name}"))
    for i, line in enumerate(panel.lines):
        colour = COLOURS[i % len(COLOURS)]
        pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if not math.isnan(y)]
        points = apart([(across(panel.x.place(x)), height(y)) for x, y in pairs])
        dash = " stroke-dasharray='5 3'" if line.dashed else ""
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f"<polyline points='{drawn}' fill='none' stroke='{colour}' stroke-width='1.8'{dash}/>")
        left, below = x0 + (WIDE // 2) * (i % 2), y0 + HIGH + 44 + 14 * (i // 2)
        parts.append(text(left, below, f"{'--' if line.dashed else '—'} {line.name}", colour=colour))
    return parts


def apart(points: Sequence[tuple[float, float]], least: float = 1.5) -> list[tuple[float, float]]:
    """The points that lie at least so many pixels from the one before, and the last."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if not kept or math.dist(point, kept[-1]) >= least:
            kept.append(point)
    return [*kept[:-1], points[-1]] if len(kept) > 1 else list(points[-1:])

"""A network's health as SVG: layers by steps of a training, and signal and gradient through depth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from denoise.pictures.svg import page, text

COLUMNS = 40  # more looks than this are thinned out
ROW, LABEL, GAP, TOP = 13, 215, 18, 62
BLUE, GREY, RED = (43, 108, 176), (238, 238, 238), (197, 48, 48)


@dataclass(frozen=True)
class Panel:
    """A map of layers by steps. `log`: blue far below 1, red far above; else grey at 0, red at 1."""

    title: str
    legend: str
    rows: Mapping[str, Sequence[float]]
    log: bool

    def colour(self, value: float) -> str:
        """The colour of one cell; black where the value is not finite."""
        if not math.isfinite(value):
            return "#000"
        if self.log:
            place = max(-1.0, min(1.0, math.log10(value) / 3)) if value > 0 else -1.0
        else:
            place = max(0.0, min(1.0, value))
        end = RED if place > 0 else BLUE
        return "#" + "".join(f"{round(a + (b - a) * abs(place)):02x}" for a, b in zip(GREY, end, strict=True))


def layers_by_steps(history: Sequence[tuple[int, Mapping[str, float]]]) -> bytes:
    """Draw the looks at the layers of a training, (step, health metrics): a row a layer, a column a look.

    Left the activations in the order in which they run: the standard deviation of the signal, dead and saturated
    units. Right the gradient norm of each layer's weights over the median layer's at that step.
    """
    looks = thin(history)
    if not looks:
        return b""
    std = {name: [math.sqrt(v) if v >= 0 else v for v in row] for name, row in table(looks, "variance").items()}
    norms = table(looks, "gradient_norm")
    middle = [sorted(c)[len(c) // 2] or max(c) for c in zip(*norms.values(), strict=True)]
    relative = {name: [v / m if m else 0.0 for v, m in zip(row, middle, strict=True)] for name, row in norms.items()}
    share = "grey 0, red 1"
    blocks = [
        [
            Panel("signal, standard deviation", "blue 0.001, grey 1, red 1000", std, True),
            Panel("dead units", share, table(looks, "dead_fraction"), False),
            Panel("saturated units", share, table(looks, "saturated_fraction"), False),
        ],
        [Panel("gradient norm / the median layer's", "blue 0.001, grey 1, red 1000", relative, True)],
    ]
    steps = [step for step, _ in looks]
    cell = max(6, min(32, 280 // len(looks)))
    wide = max(len(looks) * cell, 170)
    parts: list[str] = []
    x, most = 8, 0
    for block in blocks:
        for i, name in enumerate(block[0].rows):
            parts.append(text(x + LABEL - 6, TOP + ROW * i + 10, short(name), "end"))
        most = max(most, len(block[0].rows))
        x += LABEL
        for panel in block:
            parts.append(text(x, TOP - 26, panel.title, weight="bold"))
            parts.append(text(x, TOP - 14, panel.legend, colour="#666"))
            for i, (name, row) in enumerate(panel.rows.items()):
                parts += [
                    f"<rect x='{x + j * cell}' y='{TOP + ROW * i}' width='{cell - 1}' height='{ROW - 1}' "
                    f"fill='{panel.colour(value)}'><title>{escape(name)}, step {steps[j]}: {value:.3g}</title></rect>"
                    for j, value in enumerate(row)
                ]
            below = TOP + ROW * len(panel.rows) + 11
            parts.append(text(x, below, f"step {steps[0]}"))
            if len(steps) > 1:
                parts.append(text(x + len(steps) * cell, below, str(steps[-1]), "end"))
            x += wide + GAP
    title = "Health of the layers over a training: a row a layer, in the order in which they run; a column a look"
    return page(x, TOP + ROW * most + 24, [text(8, 16, title, weight="bold"), *parts])


def table(looks: Sequence[tuple[int, Mapping[str, float]]], figure: str) -> dict[str, list[float]]:
    """One figure of the looks: layer -> its value at each."""
    head = f"health/{figure}/"
    names = [name for name in looks[0][1] if name.startswith(head)]
    return {name.removeprefix(head): [metrics.get(name, math.nan) for _, metrics in looks] for name in names}


def thin(history: Sequence[tuple[int, Mapping[str, float]]]) -> list[tuple[int, Mapping[str, float]]]:
    """At most COLUMNS looks, evenly spread, the first and the last among them."""
    if len(history) <= COLUMNS:
        return list(history)
    return [history[round(i * (len(history) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)]


@dataclass(frozen=True)
class Curve:
    """A line of positive values over depth, 0 the input and 1 the output."""

    name: str
    values: Sequence[float]
    colour: str


def through_depth(title: str, panels: Mapping[str, Sequence[Curve]]) -> bytes:
    """Draw curves over depth on a logarithmic scale, a panel beside the other; what is zero lies on the floor."""
    parts, wide, high, left = [text(8, 16, title, weight="bold")], 360, 240, 56
    for i, (name, curves) in enumerate(panels.items()):
        x0, y0 = left + i * (wide + left + 10), 44
        values = [v for curve in curves for v in curve.values if v > 0 and math.isfinite(v)]
        top = math.ceil(math.log10(max(values, default=1.0)) + 1e-9)
        floor = max(min(math.floor(math.log10(min(values, default=1.0))), top - 2), top - 24)
        parts.append(text(x0, y0 - 8, name, weight="bold"))
        stride = max(1, (top - floor) // 6)
        for power in range(floor, top + 1, stride):
            y = y0 + high * (top - power) / (top - floor)
            parts.append(f"<line x1='{x0}' x2='{x0 + wide}' y1='{y:.1f}' y2='{y:.1f}' stroke='#ddd'/>")
            parts.append(text(x0 - 6, round(y) + 3, f"1e{power}", "end"))
        for j, curve in enumerate(curves):
            points = []
            for k, value in enumerate(curve.values):
                place = math.log10(value) if value > 0 and math.isfinite(value) else (floor if value <= 0 else top)
                place = min(max(place, floor), top)
                x = x0 + wide * k / max(1, len(curve.values) - 1)
                points.append(f"{x:.1f},{y0 + high * (top - place) / (top - floor):.1f}")
            parts.append(
                f"<polyline points='{' '.join(points)}' fill='none' stroke='{curve.colour}' stroke-width='2'/>"
            )
            parts.append(text(x0 + 8, y0 + high + 32 + 14 * j, f"— {curve.name}", colour=curve.colour))
        parts.append(text(x0, y0 + high + 14, "input"))
        parts.append(text(x0 + wide, y0 + high + 14, "output", "end"))
    most = max(len(curves) for curves in panels.values())
    return page(left + len(panels) * (wide + left + 10), 44 + high + 44 + 14 * most, parts)


def short(name: str, length: int = 36) -> str:
    """A layer's name, its beginning left out where it is long."""
    return name if len(name) <= length else "…" + name[-length + 1 :]

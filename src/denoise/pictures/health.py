"""A network's health over a training as SVG: layers by steps.

Written by hand, not by matplotlib: every trial ends with it, and it takes 2 to 11 ms of a core, not 70 to 105.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

COLUMNS, ROWS = 40, 90  # more looks, and more layers, than these are thinned out
WIDE, ROW, LABEL, GAP, TOP = 700, 13, 196, 14, 26  # as wide as MLflow's pane for an artifact
BLUE, GREY, RED = (43, 108, 176), (238, 238, 238), (197, 48, 48)


@dataclass(frozen=True)
class Panel:
    """A map of layers by steps. `log`: blue far below 1, red far above; else grey at 0, red at 1."""

    title: str
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

    def bar(self, x: float, y: float, wide: float) -> list[str]:
        """The colour bar, with its ends and its middle named below."""
        marks = {"0.001": 0.001, "1": 1.0, "1000": 1000.0} if self.log else {"0": 0.0, "0.5": 0.5, "1": 1.0}
        between = [10 ** (3 * (2 * i / 23 - 1)) if self.log else i / 23 for i in range(24)]
        parts = [
            f"{rect(x + i * wide / 24, y, wide / 24 + 0.3, 8, self.colour(v))}</rect>" for i, v in enumerate(between)
        ]
        places = zip(marks, (0, wide / 2, wide), ("start", "middle", "end"), strict=True)
        return parts + [text(x + at, y + 17, said, anchor, colour="#666") for said, at, anchor in places]


def layers_by_steps(history: Sequence[tuple[int, Mapping[str, float]]]) -> bytes:
    """Draw the looks at the layers of a training, (step, health metrics): a row a layer, a column a look.

    Above the activations in the order in which they run: the standard deviation of the signal, dead and saturated
    units. Below the gradient norm of each layer's weights over the median layer's at that step. Read at 700 pixels.
    """
    looks = thin(history, COLUMNS)
    if not looks:
        return b""
    std = {name: [math.sqrt(v) if v >= 0 else v for v in row] for name, row in table(looks, "variance").items()}
    norms = table(looks, "gradient_norm")
    middle = [sorted(c)[len(c) // 2] or max(c) for c in zip(*norms.values(), strict=True)]
    relative = {name: [v / m if m else 0.0 for v, m in zip(row, middle, strict=True)] for name, row in norms.items()}
    dead, saturated = table(looks, "dead_fraction"), table(looks, "saturated_fraction")
    blocks = [
        [
            Panel("signal, standard dev.", std, True),
            Panel("dead units, share", dead, False),
            Panel("saturated units, share", saturated, False),
        ],
        [Panel("gradient norm / the median layer's", relative, True)],
    ]
    steps, y = [step for step, _ in looks], float(TOP)
    title = f"Health of the layers, a row each, in the order in which they run; a column a look, {len(steps)} of "
    parts = [text(8, 16, f"{title}{len(history)}", weight="bold")]
    for block in blocks:
        drawn, y = _block(block, steps, y)
        parts += drawn
    return page(WIDE, y, parts)


def _block(panels: Sequence[Panel], steps: Sequence[int], top: float) -> tuple[list[str], float]:
    """Panels with the same rows beside each other, and where they end."""
    wide = (WIDE - 8 - LABEL - GAP * (len(panels) - 1)) / len(panels) - 4
    cell = min(32.0, wide / len(steps))
    layers = [name for name, _ in thin(list(panels[0].rows.items()), ROWS)]
    left = len(panels[0].rows) - len(layers)
    first = top + 50
    parts = [text(LABEL - 6, first + ROW * i + 10, short(name), "end") for i, name in enumerate(layers)]
    parts += [text(LABEL - 6, top + 34, f"{left} layers between are left out", "end", colour="#666")] if left else []
    for k, panel in enumerate(panels):
        x = LABEL + k * (wide + GAP)
        parts.append(text(x, top + 12, panel.title, weight="bold"))
        parts += panel.bar(x, top + 19, min(wide, 150))
        for i, name in enumerate(layers):
            parts += [
                rect(x + j * cell, first + ROW * i, cell - (1 if cell > 5 else 0.3), ROW - 1, panel.colour(value))
                + f"<title>{escape(name)}, step {steps[j]}: {value:.3g}</title></rect>"
                for j, value in enumerate(panel.rows.get(name, ()))
            ]
        below = first + ROW * len(layers) + 11
        parts.append(text(x, below, f"step {steps[0]}"))
        if len(steps) > 1:
            last = x + len(steps) * cell
            parts.append(text(max(last, x + 70), below, str(steps[-1]), "end"))
    return parts, first + ROW * len(layers) + 22


def table(looks: Sequence[tuple[int, Mapping[str, float]]], figure: str) -> dict[str, list[float]]:
    """One figure of the looks: layer -> its value at each."""
    head = f"health/{figure}/"
    names = [name for name in looks[0][1] if name.startswith(head)]
    return {name.removeprefix(head): [metrics.get(name, math.nan) for _, metrics in looks] for name in names}


def thin(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled rectangle, left open for what stands in it."""
    place = f"x='{x:.4g}' y='{y:.4g}' width='{width:.4g}' height='{height:.4g}'"
    return f"<rect {place} fill='{colour}'>"


def text(
    x: float,
    y: float,
    said: str,
    anchor: str = "start",
    weight: str = "normal",
    colour: str = "#222",
) -> str:
    """A piece of text at (x, y)."""
    place = f"x='{round(x, 1)}' y='{round(y, 1)}' text-anchor='{anchor}'"
    return f"<text {place} font-weight='{weight}' fill='{colour}'>{escape(said)}</text>"


def page(width: float, height: float, parts: Sequence[str]) -> bytes:
    """A whole picture on white."""
    style = "font-family='sans-serif' font-size='10' fill='#222'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' {style}>"
    return "\n".join([head, "<rect width='100%' height='100%' fill='#fff'/>", *parts, "</svg>\n"]).encode()


def short(name: str, length: int = 32) -> str:
    """A layer's name, its beginning left out where it is long."""
    return name if len(name) <= length else "…" + name[-length + 1 :]

"""A network's health over a training as SVG: layers by steps.

Written by hand, not by matplotlib: every trial ends with it, and it takes 2 to 11 ms of a core, not 70 to 105.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

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


def short(name: str, length: int = 36) -> str:
    """A layer's name, its beginning left out where it is long."""
    return name if len(name) <= length else "…" + name[-length + 1 :]

"""The incumbent's true place against compute, as SVG: a line a strategy, with its interval."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from denoise.pictures.svg import page, text

SHOWN = ("random", "tpe", "tpe_default", "stock_halving", "hyperband", "median", "funnel")
COLOURS = ("#718096", "#2b6cb0", "#805ad5", "#dd6b20", "#b7791f", "#319795", "#c53030")
WIDE, HIGH, LEFT, TOP = 560, 330, 62, 44


def places(content: Mapping[str, Any]) -> bytes:
    """Draw what a replay's results say, both axes logarithmic."""
    shown = {name: one["curve"] for name, one in content["strategies"].items() if name in SHOWN}
    colours = dict(zip(SHOWN, COLOURS, strict=True))
    compute = content["trainings"]
    low = math.log10(min((min(curve["low"]) for curve in shown.values()), default=1.0))
    bottom = min(math.floor(low * 2) / 2, 1.0)

    def x(value: float) -> float:
        return LEFT + WIDE * math.log10(value / compute[0]) / math.log10(compute[-1] / compute[0])

    def y(percent: float) -> float:
        return TOP + HIGH * (2 - math.log10(max(percent, 10**bottom))) / (2 - bottom)

    title = "How good the best config found is, against compute"
    parts = [text(8, 18, title, weight="bold"), *axes(x, y, compute, bottom)]
    for name, curve in shown.items():
        edge = [(x(c), y(v)) for c, v in zip(compute, curve["high"], strict=True)]
        edge += [(x(c), y(v)) for c, v in zip(reversed(compute), reversed(curve["low"]), strict=True)]
        parts.append(f"<polygon points='{points(edge)}' fill='{colours[name]}' fill-opacity='0.15'/>")
    for i, (name, curve) in enumerate(shown.items()):
        line = points([(x(c), y(v)) for c, v in zip(compute, curve["mean"], strict=True)])
        parts.append(f"<polyline points='{line}' fill='none' stroke='{colours[name]}' stroke-width='2'/>")
        parts.append(text(LEFT + WIDE + 14, TOP + 14 + 16 * i, f"— {name}", colour=colours[name]))
    note = f"{content['configs']} configs, {content['repeats']} searches a strategy; bands: 95 % of the mean"
    parts.append(text(LEFT, TOP + HIGH + 44, note, colour="#666"))
    return page(LEFT + WIDE + 130, TOP + HIGH + 56, parts)


def axes(x: Any, y: Any, compute: Sequence[float], bottom: float) -> list[str]:
    """Grid lines and what they are."""
    parts = []
    for percent in (100, 50, 20, 10, 5, 2, 1, 0.5, 0.2):
        if math.log10(percent) >= bottom:
            parts.append(
                f"<line x1='{LEFT}' x2='{LEFT + WIDE}' y1='{y(percent):.1f}' y2='{y(percent):.1f}' stroke='#ddd'/>"
            )
            parts.append(text(LEFT - 6, round(y(percent)) + 3, f"{percent:g} %", "end"))
    for value in (1, 2, 4, 8, 16, 32, 64):
        if compute[0] <= value <= compute[-1] * 1.001:
            parts.append(f"<line x1='{x(value):.1f}' x2='{x(value):.1f}' y1='{TOP}' y2='{TOP + HIGH}' stroke='#eee'/>")
            parts.append(text(round(x(value)), TOP + HIGH + 14, f"{value:g}", "middle"))
    parts.append(text(LEFT + WIDE / 2, TOP + HIGH + 28, "compute, in whole trainings", "middle"))
    parts.append(text(8, TOP - 8, "true place among all configs", colour="#666"))
    return parts


def points(pairs: Sequence[tuple[float, float]]) -> str:
    """Points as SVG writes them."""
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in pairs)

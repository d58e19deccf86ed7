"""A confirmation as SVG: each comparison's difference with its interval, and what the search had said."""

from collections.abc import Callable
from html import escape

from denoise.pictures.svg import page, text, ticks
from search.analysis.confirmation import Comparison, Confirmation
from search.analysis.sequential_test import BETTER, OPEN, WORSE

COLOUR = {BETTER: "#1b7837", WORSE: "#c2570c", OPEN: "#555555"}
LEFT, WIDE, ROW, TOP = 330, 420, 36, 58
LONG = 52  # letters of a name


def picture(found: Confirmation) -> bytes:
    """Draw a row a comparison, first what the search asks."""
    rows = [(one.name, f" beside {found.option}, tuned", one.tuned) for one in found.finalists if one.tuned]
    rows += [(one.name, " beside your config", one.untuned) for one in found.rivals]
    shown = [value for *_, one in rows for value in _values(one)]
    low, high = min([0.0, *shown]), max([0.0, *shown])
    pad = 0.06 * (high - low) or 1.0
    low, high = low - pad, high + pad
    bottom = TOP + ROW * len(rows)
    width, height = LEFT + WIDE + 190, bottom + 70

    def x(value: float) -> float:
        return round(LEFT + WIDE * (value - low) / (high - low), 1)

    title = f"Difference in test/loss on fresh seeds, {100 * found.settings.level:g} % intervals that hold together"
    parts = [
        f"<title>{escape(title)}</title>",
        text(10, 20, title, weight="bold"),
        text(x(0) - 8, TOP - 10, "better", "end"),
        text(x(0) + 8, TOP - 10, "worse"),
    ]
    for value in ticks(low, high):
        parts.append(f"<path d='M{x(value)} {TOP}V{bottom}' stroke='{'#ddd' if value else '#222'}'/>")
        parts.append(text(x(value), bottom + 16, f"{value:.3g}", "middle"))
    for i, (name, beside, one) in enumerate(rows):
        parts += _row(name, beside, one, TOP + ROW * i + ROW // 2, x)
    legend = "dot and line: mean difference and interval; diamond: what the search had said (one seed, other images)"
    parts.append(text(10, height - 16, legend, size=11))
    return page(width, height, parts, size=12)


def _values(one: Comparison) -> list[float]:
    values = [one.difference, one.searched, *(one.interval or ())]
    return [value for value in values if value is not None]


def _row(name: str, beside: str, one: Comparison, y: int, x: Callable[[float], float]) -> list[str]:
    colour = COLOUR[one.verdict]
    room = max(8, LONG - len(beside))
    short = (name if len(name) <= room else name[: room - 1] + "…") + beside
    parts = ["<g>", f"<title>{escape(name + beside)}</title>", text(LEFT - 12, y + 4, short, "end", size=11)]
    if one.interval is not None:
        ends = f"M{x(one.interval[0])} {y}H{x(one.interval[1])}"
        parts.append(f"<path d='{ends}' stroke='{colour}' stroke-width='4' stroke-linecap='round'/>")
    if one.searched is not None:
        at = x(one.searched)
        parts.append(f"<path d='M{at} {y - 7}l5 7l-5 7l-5 -7z' fill='#fff' stroke='#1f5fbf' stroke-width='1.5'/>")
    if one.difference is not None:
        parts.append(f"<circle cx='{x(one.difference)}' cy='{y}' r='5' fill='{colour}'/>")
    said = one.verdict + (f", diverged {one.diverged[0]}x" if one.diverged[0] else "")
    return [*parts, text(LEFT + WIDE + 12, y + 4, said, colour=colour), "</g>"]

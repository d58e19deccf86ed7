"""A confirmation as SVG: each comparison's difference with its interval, and what the search had said."""

from typing import Any

from denoise.pictures.figure import BLUE, FAINT, GREEN, ORANGE, SMALL, blank, label, panel, sheet, styled, svg
from search.analysis.confirmation import Comparison, Confirmation
from search.analysis.sequential_test import BETTER, OPEN, WORSE

COLOUR = {BETTER: GREEN, WORSE: ORANGE, OPEN: FAINT}
LEFT, WIDE, RIGHT, ROW, TOP = 260, 300, 140, 26, 44  # points
LONG = 52  # letters of a name
LETTER = 4.5  # points of one, about


def comparisons(found: Confirmation) -> list[tuple[str, Comparison]]:
    """What is drawn, from above: first what the search asks."""
    pairs = [(one.name, f" beside {found.option}, tuned", one.tuned) for one in found.finalists if one.tuned]
    pairs += [(one.name, " beside your config", one.untuned) for one in found.rivals]
    return [(label(name, max(8, LONG - len(beside))) + label(beside), one) for name, beside, one in pairs if one]


def window(rows: list[tuple[str, Comparison]]) -> tuple[float, float]:
    """The differences that are shown: all, and 0."""
    shown = [v for _, one in rows for v in (one.difference, one.searched, *(one.interval or ())) if v is not None]
    low, high = min([0.0, *shown]), max([0.0, *shown])
    pad = 0.06 * (high - low) or 1.0
    return low - pad, high + pad


@styled
def picture(found: Confirmation) -> bytes:
    """Draw a row a comparison."""
    rows = comparisons(found)
    low, high = window(rows)
    bottom = TOP + ROW * max(1, len(rows))
    left = min(LEFT, 24 + LETTER * max((len(name) for name, _ in rows), default=0))
    figure = blank(left + WIDE + RIGHT, bottom + 58)
    page = sheet(figure)
    title = f"Difference in test/loss on fresh seeds, {100 * found.settings.level:g} % intervals that hold together"
    page.text(8, 16, title, weight="bold")
    axes = panel(figure, left, TOP, WIDE, bottom - TOP)
    axes.set(xlim=(low, high), ylim=(max(1, len(rows)) - 0.5, -0.5), yticks=[], xlabel="difference in test/loss")
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color="#222222", linewidth=1)
    for said, side, shift in (("better", "right", -6), ("worse", "left", 6)):
        place: dict[str, Any] = {"xy": (0, 1), "xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
        axes.annotate(said, xytext=(shift, 4), ha=side, size=SMALL, **place)
    for i, (name, one) in enumerate(rows):
        colour, at = COLOUR[one.verdict], TOP + ROW * (i + 0.5)
        page.text(left - 10, at, name, ha="right", va="center_baseline", size=SMALL)
        diverged = f", diverged {one.diverged[0]}x" if one.diverged[0] else ""
        page.text(left + WIDE + 10, at, one.verdict + diverged, va="center_baseline", size=SMALL, color=colour)
        if one.interval is not None:
            axes.plot(one.interval, [i, i], color=colour, linewidth=3, solid_capstyle="round")
        if one.searched is not None:
            axes.plot(one.searched, i, "D", color=BLUE, mfc="white", ms=6)
        if one.difference is not None:
            axes.plot(one.difference, i, "o", color=colour, ms=7)
    legend = "dot and line: mean difference and interval; diamond: what the search had said (one seed, other images)"
    page.text(8, bottom + 50, legend, size=SMALL, color=FAINT)
    return svg(figure, title)

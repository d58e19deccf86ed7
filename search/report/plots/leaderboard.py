"""A leaderboard as SVG: a row a trial with its val/loss as a dot, the best first."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from denoise.metrics import VAL_LOSS
from denoise.pictures.figure import BLUE, DOT, FAINT, INK, ORANGE, SMALL, blank, label, panel, sheet, styled, svg

if TYPE_CHECKING:
    from search.report.leaderboard import Line

ROW, TOP, BOTTOM, MOST = 14, 58, 40, 60  # points, rows
RANK, TRIAL, DIFFERS, PLOT, WIDE, LOSS, SPEED, OUTCOME, PAGE = 28, 56, 64, 340, 160, 546, 598, 608, 700
COLOUR = {"complete": BLUE, "pruned": DOT, "failed": ORANGE, "running": DOT}
HEADS = ((RANK, "rank"), (TRIAL, "trial"), (LOSS, VAL_LOSS), (SPEED, "samples/s"))
LEGEND = "filled: complete; hollow: stopped early, or further right than is shown"
FAR = 1e100  # beyond it a value is drawn at the edge: an axis of floats cannot hold more


@styled
def picture(lines: Sequence["Line"], title: str) -> bytes:
    """Draw the best trials; what is far worse is drawn at the right edge."""
    shown = lines[:MOST]
    bottom = TOP + ROW * max(1, len(shown))
    figure = blank(PAGE, bottom + BOTTOM)
    page = sheet(figure)
    more = f"; {len(lines) - MOST} more in leaderboard.txt" if lines[MOST:] else ""
    page.text(8, 16, label(title, 100), weight="bold")
    page.text(8, 31, LEGEND, size=SMALL, color=FAINT)
    for x, head in HEADS:
        page.text(x, TOP - 8, head, ha="right", size=SMALL, color=FAINT)
    page.text(DIFFERS, TOP - 8, "differs from the baseline", size=SMALL, color=FAINT)
    page.text(OUTCOME, TOP - 8, "outcome", size=SMALL, color=FAINT)
    for i, line in enumerate(shown):
        cells = [(RANK, line.rank), (TRIAL, line.trial), (LOSS, line.loss), (SPEED, line.speed)]
        look: dict[str, Any] = {"y": TOP + ROW * (i + 0.5), "va": "center_baseline", "size": SMALL}
        look["color"] = INK if line.record.outcome == "complete" else FAINT
        for x, cell in cells:
            page.text(x, s=label(cell, 12), ha="right", **look)
        weight = "bold" if line.differs == "baseline" else "normal"
        page.text(DIFFERS, s=label(line.differs, 64), weight=weight, **look)
        page.text(OUTCOME, s=label(line.outcome, 18), **look)
    low, high = window([line.record.value for line in shown])
    axes = panel(figure, PLOT, TOP, WIDE, bottom - TOP)
    axes.set(xlim=(low, high), ylim=(max(1, len(shown)) - 0.5, -0.5), yticks=[], xlabel=f"{VAL_LOSS}{more}")
    axes.locator_params(axis="x", nbins=4)
    axes.spines["left"].set_visible(False)
    for i, line in enumerate(shown):
        value = line.record.value
        if value is not None:
            colour = COLOUR[line.record.outcome]
            fill = colour if line.record.outcome == "complete" and value <= high else "white"
            axes.plot(min(max(value, low), high), i, "o", color=colour, mfc=fill, ms=5, clip_on=False)
    return svg(figure, title)


def window(values: Sequence[float | None]) -> tuple[float, float]:
    """The values that are shown: from the lowest to past three quarters of them."""
    known = [value for value in values if value is not None and math.isfinite(value) and abs(value) < FAR]
    if not known:
        return 0.0, 1.0
    low, high = min(known), float(np.quantile(known, 0.75))
    room = max(0.08 * (high - low), 0.01 * abs(low), 1e-9)
    return low - room, high + room

"""A verdict as SVG: a row an option, its trials as dots, its best with the interval, shared ranks as bands."""

from collections.abc import Sequence

import numpy as np

from denoise.metrics import VAL_LOSS
from denoise.pictures.figure import BLUE, DOT, FAINT, INK, SMALL, blank, label, panel, sheet, styled, svg
from search.analysis.verdict import Row, Verdict

ROW, TOP, LEFT, PLOT, RIGHT, BOTTOM = 14, 44, 170, 400, 160, 40  # points
BANDS = ("#e6eef6", "#f6f6f6")


@styled
def picture(verdict: Verdict) -> bytes:
    """Draw a verdict; what lies far right of the options' bests is drawn at the edge as a hollow mark."""
    rows = verdict.rows
    low, high = window(rows)
    figure = blank(LEFT + PLOT + RIGHT, TOP + ROW * len(rows) + BOTTOM)
    page = sheet(figure)
    page.text(8, 16, f"{label(verdict.choice, 60)}: val/loss after tuning, lower is better", weight="bold")
    page.text(8, 31, _legend(verdict), size=SMALL, color=FAINT)
    for i, rank in enumerate(dict.fromkeys(row.rank for row in rows)):
        own = [j for j, row in enumerate(rows) if row.rank == rank]
        page.axhspan(TOP + ROW * own[0], TOP + ROW * (own[-1] + 1), color=BANDS[i % 2], linewidth=0)
        page.text(8, _middle(own[0]), str(rank), weight="bold", va="center_baseline")
    for i, row in enumerate(rows):
        page.text(LEFT - 8, _middle(i), label(row.option, 24), ha="right", va="center_baseline")
        page.text(
            LEFT + PLOT + 10,
            _middle(i),
            said(row),
            va="center_baseline",
            size=SMALL,
            color=INK if row.best is not None else FAINT,
        )
    axes = panel(figure, LEFT, TOP, PLOT, ROW * max(1, len(rows)))
    axes.patch.set_alpha(0)
    axes.set(xlim=(low, high), ylim=(max(1, len(rows)) - 0.5, -0.5), yticks=[], xlabel=VAL_LOSS)
    axes.spines["left"].set_visible(False)
    x, y = trials(rows)
    for far, fill, strength in ((x <= high, DOT, 0.55), (x > high, "none", 1.0)):
        axes.plot(x[far].clip(low, high), y[far], "o", color=DOT, mfc=fill, ms=4, alpha=strength, clip_on=False)
    for i, row in enumerate(rows):
        if row.best is None:
            continue
        if row.low is not None and row.high is not None:
            axes.plot(np.clip([row.low, row.high], low, high), [i, i], color=BLUE, linewidth=1.8)
        fill = "white" if row.best > high else BLUE
        axes.plot(min(row.best, high), i, "D", color=BLUE, mfc=fill, ms=5, clip_on=False)
    return svg(figure, f"{verdict.choice}: val/loss after tuning")


def window(rows: Sequence[Row]) -> tuple[float, float]:
    """The values that are shown: from the lowest to past nine tenths of the bests and half of all values."""
    bests = [row.best for row in rows if row.best is not None]
    if not bests:
        return 0.0, 1.0
    every = [value for row in rows for value in row.values]
    lows = [row.low for row in rows[:1] if row.low is not None]
    low = min([*bests, *lows])
    high = max(float(np.quantile(bests, 0.9)), float(np.median(every)))
    room = 0.05 * (high - low) or 0.05 * abs(low) or 1.0
    return low - room, high + room


def trials(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Every trial's value and the row of its option."""
    values = [np.asarray(row.values, dtype=float) for row in rows]
    return np.concatenate([*values, []]), np.repeat(np.arange(len(rows)), [len(one) for one in values])


def said(row: Row) -> str:
    """What stands at a row's right: its best and a note."""
    best = "" if row.best is None else f"{row.best:.4f}"
    return f"{best}  {label(row.note, 24)}".strip()


def _middle(row: int) -> float:
    return TOP + ROW * (row + 0.5)


def _legend(verdict: Verdict) -> str:
    chance = "tuning and seeds" if verdict.seed_sd is not None else "tuning alone; one seed each"
    return f"dots: trials; bar: 95 % interval of the best ({chance}); a band: options that cannot be told apart"

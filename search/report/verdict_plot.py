"""A verdict as SVG: a row an option, its trials as dots, its best with the interval, shared ranks as bands."""

from collections.abc import Sequence
from html import escape

import numpy as np

from denoise.pictures.svg import page, text, ticks
from search.analysis.verdict import Row, Verdict

ROW, TOP, LEFT, PLOT, RIGHT, BOTTOM = 18, 56, 200, 560, 190, 40
BANDS = ("#eaf1f8", "#f7f7f7")
NOTE = 24  # letters of a note
INK, DOT = "#2b6cb0", "#7a8794"


def picture(verdict: Verdict) -> bytes:
    """Draw a verdict; what lies far right of the options' bests is drawn at the edge as a hollow mark."""
    low, high = window(verdict.rows)
    height = TOP + ROW * len(verdict.rows) + BOTTOM
    parts = [
        text(8, 18, f"{verdict.choice}: val/loss after tuning, lower is better", weight="bold"),
        text(8, 34, _legend(verdict), colour="#666"),
    ]
    parts += _bands(verdict.rows)
    parts += _scale(low, high, TOP + ROW * len(verdict.rows))
    for i, row in enumerate(verdict.rows):
        parts += _drawn(row, TOP + ROW * i + ROW // 2, low, high)
    return page(LEFT + PLOT + RIGHT, height, parts, size=11)


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


def _legend(verdict: Verdict) -> str:
    chance = "tuning and seeds" if verdict.seed_sd is not None else "tuning alone; one seed each"
    return f"dots: trials; bar: 95 % interval of the best ({chance}); a band: options that cannot be told apart"


def _bands(rows: Sequence[Row]) -> list[str]:
    parts = []
    for i, rank in enumerate(dict.fromkeys(row.rank for row in rows)):
        own = [j for j, row in enumerate(rows) if row.rank == rank]
        y, high = TOP + ROW * own[0], ROW * len(own)
        parts.append(
            f"<rect class='band' x='0' y='{y}' width='{LEFT + PLOT + RIGHT}' height='{high}' fill='{BANDS[i % 2]}'/>"
        )
        parts.append(text(8, y + 13, str(rank), weight="bold"))
    return parts


def _scale(low: float, high: float, bottom: int) -> list[str]:
    parts = []
    for value in ticks(low, high):
        x = _place(value, low, high)
        parts.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{TOP}' y2='{bottom}' stroke='#ddd'/>")
        parts.append(text(x, bottom + 16, f"{value:.6g}", "middle"))
    return parts


def _drawn(row: Row, y: int, low: float, high: float) -> list[str]:
    parts = [text(LEFT - 10, y + 4, row.option if len(row.option) < 29 else row.option[:27] + "…", "end")]
    for value in row.values:
        x = _place(value, low, high)
        look = f"fill='none' stroke='{DOT}'" if value > high else f"fill='{DOT}' fill-opacity='0.55'"
        parts.append(
            f"<circle class='trial' cx='{x:.1f}' cy='{y}' r='3' {look}><title>{escape(row.option)}: {value:.6g}"
            "</title></circle>"
        )
    if row.best is not None and row.low is not None and row.high is not None:
        left, right = _place(row.low, low, high), _place(row.high, low, high)
        parts.append(f"<line x1='{left:.1f}' x2='{right:.1f}' y1='{y}' y2='{y}' stroke='{INK}' stroke-width='2'/>")
    if row.best is not None:
        x = _place(row.best, low, high)
        look = f"fill='{'#fff' if row.best > high else INK}' stroke='{INK}'"
        parts.append(f"<path class='best' d='M{x:.1f} {y - 6}l5 6l-5 6l-5 -6z' {look}/>")
    said = "" if row.best is None else f"{row.best:.4f}"
    said += f"  {row.note if len(row.note) <= NOTE else row.note[: NOTE - 1] + '…'}" if row.note else ""
    parts.append(text(LEFT + PLOT + 12, y + 4, said.strip(), colour="#222" if row.best is not None else "#888"))
    return parts


def _place(value: float, low: float, high: float) -> float:
    return LEFT + PLOT * (min(max(value, low), high) - low) / (high - low)

"""A report on a terminal: no higher than a screen or two where nothing was asked that takes more."""

import io
from collections.abc import Sequence

from rich.console import Console, RenderableType

from search.console.console import Out
from search.console.printed_commands import make
from search.report.report import SearchReport, Section

MOST = 60  # lines, of 80 columns
FEW, MANY = 3, 12  # rows of the leaderboard: at least, at most


def show(console: Console, report: SearchReport, after: Sequence[str] = ()) -> None:
    """Print the answer, the leaderboard, the confirmation, the verdicts, what failed; last the lines `after`.

    The leaderboard has as many rows as MOST lines have room for.
    """
    below: list[RenderableType] = [each for part in report.parts[1:] for each in _brief(part)]
    table = report.leaderboard.tables[0] if report.leaderboard.tables else None
    if table is not None:
        table.title = report.name
        room = MOST - height(console, [*report.answer, *below]) - sum(_wrapped(console, text) for text in after)
        rows = next((n for n in range(MANY, FEW, -1) if height(console, [_short(report, n)]) <= room), FEW)
        below.insert(0, _short(report, rows))
    for each in [*report.answer, *below]:
        console.print(each)
    for text in after:
        console.print(text, soft_wrap=True)


def height(console: Console, shown: Sequence[RenderableType]) -> int:
    """How many lines these take on a console of this width."""
    paper = Out(width=console.width, file=io.StringIO(), record=True)
    for each in shown:
        paper.print(each)
    return paper.export_text().count("\n")


def _brief(part: Section) -> list[RenderableType]:
    return [] if part.folded else [*part.tables[: part.brief], *part.said]


def _short(report: SearchReport, rows: int) -> RenderableType:
    return report.leaderboard.tables[0].shortened(rows, f"complete trials: {make('report')} writes a page with all")


def _wrapped(console: Console, text: str) -> int:
    return 1 + max(0, len(text) - 1) // console.width

"""What goes with a search's answer: what was not drawn, what a search that is stopped has, how its choices did."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from denoise.errors import UserError
from search.analysis import confirmation
from search.analysis.ranking import best
from search.report import findings as findings_report
from search.report import leaderboard
from search.space.option import difference
from search.tracking.record import Record
from search.tracking.tracker import Tracker

ROWS = 10  # of the trials of a search that is stopped


def starts(tag: str) -> list[int]:
    """The numbers in a search's tag; none where it has no such tag, as a search of before."""
    return [int(number) for number in re.findall(r"\d{1,9}", tag)]


def undrawn(
    records: Sequence[Record], baseline: Sequence[str], starts: Sequence[int], found: confirmation.Confirmation | None
) -> str:
    """One sentence where the best is a known start or the baseline, and no config that was drawn; else nothing.

    By the fresh seeds where there are some. That nothing is better than the baseline, the confirmation says itself.
    """
    drawn = sum(one.number not in starts for one in records)
    top = best(records)
    number = top.number if top is not None else None
    if found is not None:
        number = found.best.trial if isinstance(found.best, confirmation.Finalist) else None
    start = next((one for one in records if one.number == number), None)
    if start is None or number not in starts or not drawn:
        return ""
    differs = difference(start.overrides, baseline)
    name = "your config as it is" if differs == "baseline" else f"the known start of trial {number} ({differs})"
    beats = "has a lower val/loss than" if found is None else "is shown to be better than"
    return f"None of the configs that were drawn ({drawn}) {beats} {name}."


def stopped(console: Console, tracker: Tracker, baseline: Sequence[str], name: str, total: int) -> None:
    """Show what a search has that is stopped here: its best trials so far, and how many are over."""
    found = tracker.find(role="search", study=name)
    records = tracker.records(found[0].info.run_id) if found else []
    over = [one for one in records if one.outcome != "running"]
    if over:
        console.print(leaderboard.leaderboard(over, baseline, name, rows=ROWS))
        console.print(leaderboard.summary(over, baseline))
    console.print(f"stopped with {len(over)} of {total} trials over")


def findings(tracker: Tracker, run_id: str) -> findings_report.Findings | None:
    """Read what a search's run has of its choices; None where it has not come to its end."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return findings_report.read(tracker.artifact(run_id, findings_report.NAME, Path(folder)).read_bytes())
        except UserError:
            return None

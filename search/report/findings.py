"""What a search found, as one JSON file beside the pictures, so that it can be shown again without its trials."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rich.console import Console

from denoise.errors import UserError
from search.analysis.importance import Importance, Share
from search.analysis.learning_rate import LrRange
from search.analysis.rank_correlation import Agreement
from search.analysis.verdict import Row, Verdict
from search.console.console import Out
from search.report import importance, rank_correlation
from search.report import verdict as shown
from search.report.plots.verdict import picture

FORMAT = 1
NAME = "verdict.json"


@dataclass(frozen=True)
class Findings:
    """The verdicts of a search, one a choice, and what goes with them."""

    verdicts: list[Verdict]
    importance: Importance | None = None
    rungs: list[Agreement] = field(default_factory=list)
    widths: list[Agreement] = field(default_factory=list)


def files(findings: Findings) -> dict[str, bytes]:
    """verdict.json, verdict.txt, and a verdict-CHOICE.svg for each of which something was compared."""
    console = Out(record=True, width=150, file=io.StringIO(), force_terminal=False)
    show(findings, console)
    pictures = {f"verdict-{_plain(v.choice)}.svg": picture(v) for v in findings.verdicts if shown.compared(v)}
    content = {"format": FORMAT, **asdict(findings)}
    return {
        NAME: json.dumps(content, indent=1, allow_nan=False).encode(),
        "verdict.txt": console.export_text().encode(),
    } | pictures


def show(findings: Findings, console: Console) -> None:
    """Print everything: per choice its table and sentences, then importance, then agreement."""
    for verdict in findings.verdicts:
        _print(console, shown.table(verdict) if len(verdict.rows) > 1 else None, shown.sentences(verdict))
    if findings.importance is not None:
        found = findings.importance
        _print(console, importance.table(found) if found.shares else None, importance.sentences(found))
    if findings.rungs:
        _print(console, rank_correlation.table(findings.rungs), rank_correlation.sentences(findings.rungs))
    for width in findings.widths:
        console.print(rank_correlation.width_sentence(width), highlight=False, markup=False)


def read(content: bytes) -> Findings:
    """Read verdict.json. Errors: UserError where it is not one."""
    try:
        plain: dict[str, Any] = json.loads(content)
        if plain.pop("format") != FORMAT:
            raise UserError(f"{NAME}: was written by another version; format {FORMAT} is legal")
        found = plain["importance"]
        return Findings(
            [_verdict(each) for each in plain["verdicts"] if not each.get("confounded")],  # as they once were
            None if found is None else Importance(**found | {"shares": [Share(**share) for share in found["shares"]]}),
            [Agreement(**each) for each in plain["rungs"]],
            [Agreement(**each) for each in plain["widths"]],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{NAME}: cannot be read ({error}); the record has been changed") from error


def _verdict(plain: Mapping[str, Any]) -> Verdict:
    rows = [Row(**row | {"lr_range": row["lr_range"] and LrRange(**row["lr_range"])}) for row in plain["rows"]]
    known = {one.name for one in fields(Verdict)}  # what another version wrote beside them is left
    return Verdict(**{name: value for name, value in plain.items() if name in known} | {"rows": rows})


def _print(console: Console, table: Any, said: list[str]) -> None:
    if table is not None:
        console.print(table)
    for sentence in said:
        console.print(sentence, highlight=False, markup=False)
    console.print()


def _plain(choice: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in choice)

"""What a search says: the leaderboard as a table, a picture and a file, and the best config as a command."""

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml as pyyaml
from rich.text import Text

from denoise import best_file
from denoise.config.compose import as_yaml
from denoise.metrics import VAL_LOSS
from search.analysis import equivalent_trials
from search.analysis.ranking import best, rank
from search.console.console import Out
from search.console.printed_commands import command, make
from search.console.redact import hide, line
from search.console.tables import Fitting
from search.report.plots.leaderboard import picture
from search.space.option import difference
from search.tracking.record import Record
from search.tracking.tags import Tag


def leaderboard(records: Sequence[Record], baseline: Sequence[str], title: str, rows: int | None = None) -> Fitting:
    """Rank, trial, what differs from the baseline, val/loss, samples/s, outcome; the best first."""
    table = Fitting(title, spare=[4, 0])
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("differs from the baseline", overflow="fold", min_width=28)
    table.add_column(VAL_LOSS, justify="right", no_wrap=True)
    table.add_column("samples/s", justify="right", no_wrap=True)
    table.add_column("outcome", min_width=13)
    styles = {"complete": "", "pruned": "dim", "failed": "red", "running": "cyan"}
    ranked = lines(records, baseline)
    for shown in ranked[:rows]:
        differs = Text(shown.differs, "bold" if shown.differs == "baseline" else "")
        cells = (shown.rank, shown.trial, differs, shown.loss, shown.speed, shown.outcome)
        table.add_row(*cells, style=styles[shown.record.outcome])
    if rows is not None and len(ranked) > rows:
        table.caption = f"{len(ranked) - rows} more; {make('report')} shows all"
    return table


def complete(records: Sequence[Record], baseline: Sequence[str], confirmed: Mapping[int, str], title: str) -> Fitting:
    """The complete trials, the best first, the baseline's row in bold; confirmed: what fresh seeds say, by trial."""
    table = Fitting(title, spare=[5, 4, 0])
    for name, folded in (("rank", 0), ("trial", 0), ("differs from the baseline", 28), (VAL_LOSS, 0), ("samples/s", 0)):
        if folded:
            table.add_column(name, overflow="fold", min_width=folded)
        else:
            table.add_column(name, justify="right", no_wrap=True)
    if confirmed:
        table.add_column("difference on fresh seeds", min_width=26)
    for shown in lines(records, baseline):
        if shown.record.outcome == "complete":
            cells: list[str | Text] = [shown.rank, shown.trial, Text(shown.differs), shown.loss, shown.speed]
            cells += [confirmed.get(shown.record.number or 0, "")] if confirmed else []
            table.add_row(*cells, style="bold" if shown.differs == "baseline" else "")
    return table


@dataclass(frozen=True)
class Line:
    """A trial as the leaderboard shows it."""

    record: Record
    rank: str
    trial: str
    differs: str
    loss: str
    speed: str
    outcome: str


def lines(records: Sequence[Record], baseline: Sequence[str]) -> list[Line]:
    """The trials as they are shown, the best first."""
    same, places, found = equivalent_trials.find(records), itertools.count(1), []
    for record in rank(records):
        outcome = record.outcome
        if outcome == "pruned":
            capped = record.tags.get(Tag.FAILURE_KIND) == "cap"
            outcome = "over the cap" if capped else f"pruned at {record.step}"
        elif outcome == "failed":
            outcome = record.tags.get(Tag.FAILURE_KIND, "failed")
            outcome += f" at {record.step}" if record.step else ""
        differs = difference(record.overrides, baseline)
        differs += f" (trial {same[record.run_id].of.number}'s weights)" if record.run_id in same else ""
        ranked = record.outcome == "complete" and record.run_id not in same
        found.append(
            Line(
                record,
                rank=str(next(places)) if ranked else "",
                trial="" if record.number is None else str(record.number),
                differs=differs,
                loss="-" if record.value is None else f"{record.value:.4f}",
                speed="-" if record.samples_per_second is None else f"{record.samples_per_second:.0f}",
                outcome=outcome,
            )
        )
    return found


def start(summary: str, left: Sequence[tuple[str, str]], most: int = 12) -> list[str]:
    """What an initialization that takes weights took, and what it left and why, a line each."""
    more = [f"  and {len(left) - most} more: the run's artifact initializer.txt lists them all"] if left[most:] else []
    return [summary, *(f"  {name}: {reason}" for name, reason in left[:most]), *more]


def files(records: Sequence[Record], baseline: Sequence[str], title: str) -> dict[str, bytes]:
    """The leaderboard as leaderboard.json, leaderboard.txt and leaderboard.svg."""
    table, same = leaderboard(records, baseline, title), equivalent_trials.find(records)
    console = Out(record=True, width=118, file=io.StringIO(), force_terminal=True)
    console.print(table)
    plain = [
        {
            "trial": record.number,
            "run": record.run_id,
            "outcome": record.outcome,
            "step": record.step,
            VAL_LOSS: record.value,
            "samples_per_second": record.samples_per_second,
            "differs": difference(record.overrides, baseline),
            "overrides": record.overrides,
            "failure": record.failure,
            "same_weights_as": same[record.run_id].of.number if record.run_id in same else None,
        }
        for record in rank(records)
    ]
    return {
        "leaderboard.json": json.dumps(plain, indent=1).encode(),
        "leaderboard.svg": picture(lines(records, baseline), title),
        "leaderboard.txt": console.export_text().encode(),
    }


def best_yaml(overrides: Sequence[str], says: str, run_id: str) -> bytes:
    """A config that trains these overrides, in Hydra's own form, to be used with --config-dir and --config-name.

    says: what it is, in one line; run_id: the run that has its weights.
    """
    head = f"# {line(says)}\n# its weights: run {run_id}\n"
    head += f"# {command(['--config-dir', 'FOLDER_OF_THIS_FILE', '--config-name', 'best'])}\n"
    return hide(head + as_yaml(best_file.content(overrides))).encode()


def says(record: Record, search: str) -> str:
    """What a trial or a training is worth that was not confirmed."""
    value = "-" if record.value is None else f"{record.value:.6f}"
    if record.number is None:
        return f"{search}: val/loss {value}"
    return f"trial {record.number} of {search}: val/loss {value}, one seed, not confirmed"


def yaml(content: Any) -> bytes:
    """Plain data as YAML, in the order given."""
    text: str = pyyaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
    return text.encode()


def summary(records: Sequence[Record], baseline: Sequence[str]) -> str:
    """One line: the best against the baseline, or that there is none."""
    top = best(records)
    first = next((r for r in records if difference(r.overrides, baseline) == "baseline" and r.value is not None), None)
    if top is None or top.value is None:
        return "No trial completed; increase search.n_trials or trainer.max_steps."
    line = f"Best: trial {top.number}, val/loss {top.value:.4f}"
    if first is not None and first.value is not None and first.run_id != top.run_id:
        line += f" (baseline {first.value:.4f}, {(top.value / first.value - 1):+.1%})"
    return line + ": one seed each, so a small difference may be luck."

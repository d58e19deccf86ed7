"""What lies in a store, as rows: its searches, and the trainings of one. As a table, as JSON, as CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table

from denoise.metrics import COST, SAMPLES_PER_SECOND, TEST_LOSS, VAL_LOSS
from search.analysis.ranking import best, rank
from search.confirmation import stored
from search.console.tables import Fitting
from search.report import confirmation
from search.space.option import difference
from search.tracking.record import Record, of_run, tag
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker

Row = dict[str, Any]
FORMS = ("json", "csv")
DIGITS = 8  # of a run's id where it is only shown


def searches(books: Tracker) -> list[Row]:
    """A row a search, the latest first: what it asked, how far it is, what it found."""
    return [_search(books, run) for run in books.searches()]


def _search(books: Tracker, run: Any) -> Row:
    tags, params = run.data.tags, run.data.params
    records = books.records(run.info.run_id)
    baseline = tag(run.info.run_id, tags, Tag.BASELINE, list, [])
    top, found = best(records), stored.stored(books, run.info.run_id)
    ended = tags.get(Tag.OUTCOME) == "complete"
    return {
        "search": run.info.run_name,
        **{name: params.get(name, "") for name in ("mode", "data", "model")},
        "trials": sum(record.outcome != "running" for record in records),
        "of": int(params["trials"]) if params.get("trials", "").isdigit() else None,
        VAL_LOSS: top.value if top is not None else None,
        "best": difference(top.overrides, baseline) if top is not None else "",
        "confirmed": confirmation.take(found) if found is not None else "",
        "state": "ended" if ended else "running" if run.info.status == "RUNNING" else "stopped",
        "began": _time(run.info.start_time),
        "run": run.info.run_id,
    }


def trials(books: Tracker, parent: str) -> list[Row]:
    """A row a training of a search: its trials, the best first, then those on fresh seeds; each param a column."""
    runs = {run.info.run_id: run for run in books.find(**{Tag.PARENT: parent})}
    records = [of_run(run) for run in runs.values()]
    ranked = rank([record for record in records if record.tags.get(Tag.ROLE) == "trial"])
    fresh = sorted((one for one in records if one.tags.get(Tag.ROLE) == "confirm"), key=_order)
    baseline = tag(parent, books.run_of(parent).data.tags, Tag.BASELINE, list, [])
    return [_training(runs[one.run_id], one, baseline) for one in [*ranked, *fresh]]


def _order(record: Record) -> tuple[str, int]:
    seed = record.tags.get(Tag.SEED, "")
    return record.tags.get(Tag.DIFFERS, ""), int(seed) if seed.isdigit() else 0


def _training(run: Any, record: Record, baseline: Sequence[str]) -> Row:
    ended = run.info.end_time
    return {
        "what": record.tags[Tag.ROLE],
        "trial": record.number,
        "differs": record.tags.get(Tag.DIFFERS) or difference(record.overrides, baseline),
        "outcome": record.outcome,
        "step": record.step,
        VAL_LOSS: record.value,
        TEST_LOSS: record.metrics.get(TEST_LOSS),
        **{name: value for name, value in sorted(record.metrics.items()) if name.startswith(COST)},
        "seconds": (ended - run.info.start_time) / 1000 if ended else None,
        "began": _time(run.info.start_time),
        "run": record.run_id,
        "failure": record.failure,
        **run.data.params,
    }


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(timespec="seconds")


def columns(rows: Sequence[Row]) -> list[str]:
    """Every key of the rows, in the order in which they come up."""
    return list(dict.fromkeys(name for row in rows for name in row))


def text(rows: Sequence[Row], form: str) -> str:
    """The rows in one of FORMS. CSV: a line a row, nothing for what is not there; JSON: a list of objects.

    What is no number is null in JSON, and empty in CSV.
    """
    rows = [{name: _plain(value) for name, value in row.items()} for row in rows]
    if form == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
    written = io.StringIO()
    writer = csv.DictWriter(written, columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue().rstrip("\n")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_of_searches(rows: Sequence[Row], place: str) -> Table:
    """Search, trials, val/loss, what it found, state, began, run."""
    table = Fitting(f"searches in {place}", spare=[6, 5, 4])
    for name, more in _SEARCHES.items():
        table.add_column(name, **more)
    for row in rows:
        of = f"{row['trials']} of {row['of']}" if row["of"] else str(row["trials"])
        said = row["confirmed"] or (f"{row['best']}, not confirmed" if row["best"] else "")
        value = "-" if row[VAL_LOSS] is None else f"{row[VAL_LOSS]:.4f}"
        table.add_row(row["search"], of, value, said, row["state"], row["began"][:16], row["run"][:DIGITS])
    return table


_SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "search": {"no_wrap": True},
    "trials": {"no_wrap": True},
    VAL_LOSS: {"no_wrap": True, "justify": "right"},
    "the best": {"overflow": "fold", "min_width": 30},
    "state": {"no_wrap": True},
    "began": {"no_wrap": True},
    "run": {"no_wrap": True},
}


def table_of_trials(rows: Sequence[Row], name: str) -> Table:
    """Trial, what differs, outcome, step, val/loss, samples/s, seconds, run: the trials, without the fresh seeds."""
    table = Fitting(name, spare=[6, 5, 3])
    for header in ("trial", "differs from the baseline", "outcome", "step", VAL_LOSS, "samples/s", "seconds", "run"):
        left = header in ("differs from the baseline", "outcome", "run")
        folds: Mapping[str, Any] = {"overflow": "fold", "min_width": 28} if "differs" in header else {"no_wrap": True}
        table.add_column(header, justify="left" if left else "right", **folds)
    for row in (row for row in rows if row["what"] == "trial"):
        numbers = [_number(row[VAL_LOSS], 4), _number(row.get(SAMPLES_PER_SECOND), 0), _number(row["seconds"], 0)]
        trial = "" if row["trial"] is None else str(row["trial"])
        cells = (row["differs"], row["outcome"], str(row["step"]), *numbers, row["run"][:DIGITS])
        table.add_row(trial, *cells, style="" if row["outcome"] == "complete" else "dim")
    if fresh := sum(row["what"] == "confirm" for row in rows):
        table.caption = f"and {fresh} trainings on fresh seeds: --csv and --json have them, and every param"
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

"""Which run a verb is about: the one that is named, or the best of the latest search."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from denoise import plain
from denoise.config import Composed
from denoise.refusal import Refusal
from search import report, sqlite
from search.commands import key, make
from search.process import TRACKS, load
from search.record import Record, check
from search.record import best as best_of
from search.tracking import Tracker, resolve_uri


def tracker(composed: Composed) -> Tracker:
    """Open the tracker of a store in which there was a search. Errors: Refusal where there was none."""
    cfg = composed.cfg
    store = Path(cfg.store).expanduser()
    uri = resolve_uri(cfg.tracking.uri, store)
    if (file := sqlite.file(uri)) and not file.exists():
        raise Refusal(f"store={cfg.store}: no search here yet; start one with {make('search')}, or give store=FOLDER")
    load(*TRACKS)
    return Tracker(uri, cfg.tracking.experiment, store)


def search_of(books: Tracker, run_id: str | None) -> Any:
    """The MLflow run of the search RUN, or of the latest search. Errors: Refusal."""
    searches = books.searches()
    if run_id is not None:
        searches = [run for run in searches if run.info.run_id == run_id]
        if not searches:
            raise Refusal(f"RUN={run_id}: no such search in {books.place}; {make('ui')} shows them")
    if not searches:
        raise Refusal(f"no search in {books.place} yet; start one with {make('search')}")
    return searches[0]


@dataclass(frozen=True)
class Chosen:
    """A run that is meant; overrides: of its config, a fresh seed's left out; says: what it is worth, in one line."""

    record: Record
    overrides: list[str]
    says: str


def chosen(books: Tracker, run_id: str | None) -> Chosen:
    """The run that is meant: RUN, or the best of the latest search. Errors: Refusal."""
    if run_id is not None:
        record = books.record(run_id)
        return Chosen(record, record.overrides, report.says(record, f"run {run_id}"))
    parent = search_of(books, None)
    name, found = parent.info.run_name, best_of(books.records(parent.info.run_id))
    if found is None:
        raise Refusal(f"search {name}: no trial came to its end yet; the same make search goes on with it")
    if best := parent.data.tags.get("best"):
        found = books.record(best)
    from search import confirm

    confirmed = confirm.stored(books, parent.info.run_id)
    arm = confirmed.best if confirmed is not None else None
    if confirmed is not None and arm is not None and found.run_id in arm.runs.values():
        return Chosen(check(found), arm.overrides, f"{name}: {confirm.take(confirmed)}")
    return Chosen(check(found), found.overrides, report.says(found, name))


def of_machine(books: Tracker, record: Record) -> list[str]:
    """The overrides that a search set for the machine that it was on: its threads, where nobody gave them.

    They are part of what reproduces a run bit for bit, and no part of its config.
    """
    threads = [text for text in record.overrides if key(text) == "trainer.num_threads"]
    try:
        origin = books.record(record.tags["reproduces"]) if "reproduces" in record.tags else record
        with TemporaryDirectory() as folder:
            config = books.artifact(origin.tags["mlflow.parentRunId"], "config.yaml", Path(folder)).read_text()
        given = plain.load(config, "config.yaml")["trainer"]["num_threads"]
    except (Refusal, KeyError, TypeError, ValueError):  # of no search, or the tracker's is no config
        return []
    return threads if given is None else []

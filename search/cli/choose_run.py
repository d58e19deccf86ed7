"""Which run a verb is about: the one that is named, or the best of the latest search."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from denoise.config import plain
from denoise.config.compose import Composed
from denoise.config.overrides import Overrides
from denoise.errors import UserError
from search.analysis.ranking import best as best_of
from search.console.printed_commands import make, named
from search.report import leaderboard
from search.runtime.startup import TRACKS, load
from search.storages import sqlite
from search.storages.store_folder import store_of
from search.tracking import read_only
from search.tracking.address import FROM_OUTSIDE, is_local, resolve_uri
from search.tracking.record import Record, check
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker


def tracker(composed: Composed) -> Tracker:
    """Open the tracker of a store in which there was a search, to read. Errors: UserError where there was none."""
    cfg = composed.cfg
    store = store_of(cfg)
    uri = resolve_uri(cfg.tracking.uri, store)
    local = is_local(uri, store)
    if (file := sqlite.file(uri)) and not file.exists():
        if local and (store / "optuna.db").exists():
            raise UserError(
                f"store={cfg.store}: its mlflow.db is gone; the same {named('search')} writes its runs anew "
                "from optuna.db"
            )
        raise UserError(f"store={cfg.store}: no search here yet; start one with {make('search')}, or give store=FOLDER")
    load(*TRACKS)
    if local and read_only.why_not(store):
        return read_only.opened(cfg.tracking.experiment, store)
    return Tracker(uri, cfg.tracking.experiment, store, new=False)


def search_of(books: Tracker, run_id: str | None) -> Any:
    """The MLflow run of the search RUN, or of the latest search. Errors: UserError."""

    def asked(searches: list[Any]) -> list[Any]:
        return [run for run in searches if run_id in (None, run.info.run_id)]

    searches = asked(books.searches())
    if not searches and (deleted := asked(books.deleted(role="search"))):
        raise UserError(
            f"search {deleted[0].info.run_name}: is deleted in MLflow; bring it back in its pages ({make('ui')}, "
            f"State: Deleted), or start another with {make('search', ['search.name=NAME'])}"
        )
    if not searches and run_id is not None:
        raise UserError(f"RUN={run_id}: no such search in {books.place}; {make('ui')} shows them")
    if not searches:
        if books.files is None and (books.store / "optuna.db").exists():
            raise UserError(
                f"no search in {books.place}, and store={books.store} has some: the same {named('search')} writes "
                f"their runs anew there; those that are in the store are found without tracking.uri and {FROM_OUTSIDE}"
            )
        raise UserError(f"no search in {books.place} yet; start one with {make('search')}")
    return searches[0]


@dataclass(frozen=True)
class Chosen:
    """A run that is meant; overrides: of its config, a fresh seed's left out; says: what it is worth, in one line."""

    record: Record
    overrides: list[str]
    says: str


def chosen(books: Tracker, run_id: str | None) -> Chosen:
    """The run that is meant: RUN, or the best of the latest search. Errors: UserError."""
    if run_id is not None:
        record = books.record(run_id)
        return Chosen(record, record.overrides, leaderboard.says(record, f"run {run_id}"))
    parent = search_of(books, None)
    name, found = parent.info.run_name, best_of(books.records(parent.info.run_id))
    if found is None:
        raise UserError(f"search {name}: {_none_complete(books, parent)}")
    if (best := parent.data.tags.get(Tag.BEST)) and books.active(best):
        found = books.record(best)
    from search.confirmation import stored
    from search.report import confirmation

    confirmed = stored.stored(books, parent.info.run_id)
    arm = confirmed.best if confirmed is not None else None
    if confirmed is not None and arm is not None and found.run_id in arm.runs.values():
        return Chosen(check(found), arm.overrides, f"{name}: {confirmation.take(confirmed)}")
    gone = f"; run {best}, that it ended with, is deleted in MLflow" if best and not books.active(best) else ""
    if gone and confirmed is not None and any(best in one.runs.values() for one in confirmed.arms):
        gone += f", and the same {named('search')} trains it again"
    if confirmed is None and Tag.CONFIRMED in parent.data.tags:
        gone += f"; its confirmation cannot be read, and the same {named('search')} makes it anew"
    return Chosen(check(found), found.overrides, leaderboard.says(found, name) + gone)


def _none_complete(books: Tracker, parent: Any) -> str:
    """Why a search has no best trial, and the way on."""
    gone = books.deleted(**{Tag.PARENT: parent.info.run_id, Tag.ROLE: "trial"})
    if any(run.data.tags.get(Tag.OUTCOME) == "complete" for run in gone):
        return (
            "the runs of its trials are deleted in MLflow; bring them back in its pages "
            f"({make('ui')}, State: Deleted), or begin anew with search.name=NAME and the same {named('search')}"
        )
    if parent.info.status == "FINISHED":
        return "none of its trials is complete; raise search.n_trials or trainer.max_steps"
    return f"no trial is complete yet; the same {named('search')} resumes it"


def of_machine(books: Tracker, record: Record) -> list[str]:
    """The overrides that a search set for the machine that it was on: its threads, where no one gave them.

    They are part of what reproduces a run bit for bit, and no part of its config.
    """
    threads = list(Overrides(record.overrides).only(("trainer.num_threads",)))
    try:
        origin = books.record(record.tags[Tag.REPRODUCES]) if Tag.REPRODUCES in record.tags else record
        with TemporaryDirectory() as folder:
            config = books.artifact(origin.tags[Tag.PARENT], "config.yaml", Path(folder)).read_text()
        given = plain.load(config, "config.yaml")["trainer"]["num_threads"]
    except (UserError, KeyError, TypeError, ValueError):  # of no search, or the tracker's is no config
        return []
    return threads if given is None else []

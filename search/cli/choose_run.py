"""Which run a verb is about: the one that RUN names, or the best of the latest search."""

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
from search.searches import run_names
from search.searches.run_names import Named
from search.space.option import difference
from search.storages import sqlite
from search.storages.store_folder import store_of
from search.tracking import read_only
from search.tracking.address import FROM_OUTSIDE, is_local, resolve_uri
from search.tracking.record import Record, check, of_run, tag
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


def search_of(books: Tracker, text: str | None) -> Any:
    """The MLflow run of the search RUN, of the search that the run RUN is a part of, or of the latest.

    Errors: UserError.
    """
    named = run_names.read(books, text)
    if named.run is None:
        return named.search or latest(books)
    if (parent := named.run.data.tags.get(Tag.PARENT)) is None:
        raise UserError(f"RUN={text}: a training of its own, of no search; {make('searches')} lists the searches")
    return books.run_of(parent)


def to_remove(books: Tracker, text: str) -> Any:
    """The MLflow run of the search RUN, also of one that is deleted in MLflow. Errors: UserError."""
    gone = [run for run in books.deleted(role="search") if text in (run.info.run_id, run.info.run_name)]
    return gone[0] if gone and not books.find(role="search", study=gone[0].info.run_name) else search_of(books, text)


def latest(books: Tracker) -> Any:
    """The MLflow run of the latest search. Errors: UserError where there is none."""
    searches = books.searches()
    if not searches and (deleted := books.deleted(role="search")):
        raise UserError(run_names.is_deleted(deleted[0]))
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


def chosen(books: Tracker, text: str | None) -> Chosen:
    """The run that is meant: RUN, or the best of the latest search. Errors: UserError."""
    named = run_names.read(books, text)
    parent = None if named.run is not None else named.search or latest(books)
    if parent is None or named.trial is not None or named.pick in ("baseline", "champion"):
        run = named.run or (_champion(books, parent) if named.pick == "champion" else _trial(books, parent, named))
        record = books.record(run.info.run_id)
        return Chosen(record, record.overrides, leaderboard.says(record, _name(books, record)))
    return best_in(books, parent)


def _champion(books: Tracker, parent: Any) -> Any:
    """The run of the champion of a search's question, which another search may have found."""
    from search.tracking import registered  # which loads torch

    model = parent.data.tags.get(Tag.MODEL, "")
    run = books.run_of(registered.champion(books, model)) if model else None
    if run is None:
        raise UserError(f"search {parent.info.run_name}: has no champion; it registers one when it ends")
    return run


def _trial(books: Tracker, parent: Any, named: Named) -> Any:
    """The run of a search's trial that is named; of its baseline the trial that has nothing else."""
    name, number = parent.info.run_name, named.trial
    of_it = {Tag.PARENT: parent.info.run_id, Tag.ROLE: "trial"}
    if number is None:
        baseline = tag(parent.info.run_id, parent.data.tags, Tag.BASELINE, list, [])
        runs = {run.info.run_id: run for run in books.find(**of_it)}
        numbers = sorted(
            (record.number or 0, record.run_id)
            for record in map(of_run, runs.values())
            if difference(record.overrides, baseline) == "baseline"
        )
        if not numbers:
            raise UserError(f"search {name}: has no trial of the baseline yet")
        return runs[numbers[0][1]]
    found = books.find(**of_it, **{Tag.TRIAL: str(number)})
    if not found:
        most = max((record.number or 0 for record in books.records(parent.info.run_id)), default=None)
        legal = "it has no trial yet" if most is None else f"legal: 0 to {most}"
        gone = ", deleted in MLflow" if books.deleted(**of_it, **{Tag.TRIAL: str(number)}) else ""
        raise UserError(f"RUN=trial {number}: search {name} has no such trial{gone}; {legal}")
    return found[0]


def _name(books: Tracker, record: Record) -> str:
    """How a sentence calls what a record belongs to."""
    parent = books.run_of(record.tags[Tag.PARENT]) if Tag.PARENT in record.tags else None
    return f"run {record.run_id}" if parent is None or record.number is None else str(parent.info.run_name)


def best_in(books: Tracker, parent: Any) -> Chosen:
    """The best run of a search, by its confirmation where it has one. Errors: UserError."""
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

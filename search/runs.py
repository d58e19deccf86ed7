"""Which run a verb is about: the one that is named, or the best of the latest search."""

from pathlib import Path
from typing import Any

from denoise.config import Composed
from denoise.refusal import Refusal
from search.process import TRACKS, load
from search.record import Record, check
from search.record import best as best_of
from search.tracking import Tracker, resolve_uri


def tracker(composed: Composed) -> Tracker:
    """Open the tracker of a store in which there was a search. Errors: Refusal where there was none."""
    cfg = composed.cfg
    store = Path(cfg.store).expanduser()
    uri = resolve_uri(cfg.tracking.uri, store)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise Refusal(f"store={cfg.store}: no search here yet; start one with make search, or give store=FOLDER")
    load(*TRACKS)
    return Tracker(uri, cfg.tracking.experiment, store)


def search_of(books: Tracker, run_id: str | None) -> Any:
    """The MLflow run of the search RUN, or of the latest search. Errors: Refusal."""
    searches = books.searches()
    if run_id is not None:
        searches = [run for run in searches if run.info.run_id == run_id]
        if not searches:
            raise Refusal(f"RUN={run_id}: no such search in {books.uri}; make ui shows them")
    if not searches:
        raise Refusal(f"no search in {books.uri} yet; start one with make search")
    return searches[0]


def chosen(books: Tracker, run_id: str | None) -> tuple[Record, str]:
    """The run that is meant, and what to call it: RUN, or the best trial of the latest search. Errors: Refusal."""
    if run_id is not None:
        return books.record(run_id), f"run {run_id}"
    parent = search_of(books, None)
    found = best_of(books.records(parent.info.run_id))
    if found is not None and (best := parent.data.tags.get("best")):  # what was confirmed on fresh seeds
        found = books.record(best)
    if found is None:
        raise Refusal(f"search {parent.info.run_name}: no trial came to its end yet; make search goes on with it")
    return check(found), parent.info.run_name

"""What RUN may say: a run by its id or the beginning of that, a search by its name, and one of a search's trainings.

RUN = [SEARCH] [trial N | best | baseline | champion]. Without SEARCH the latest one is meant.
"""

import re
from dataclasses import dataclass
from typing import Any

from denoise.errors import UserError
from search.console.printed_commands import make
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker

PICKS = ("best", "baseline", "champion")
PICK = re.compile(rf"(?:(?P<search>\S+)\s+)?(?:trial\s+(?P<trial>\d{{1,9}})|(?P<pick>{'|'.join(PICKS)}))")
BEGINNING = re.compile(r"[0-9a-f]{4,32}")  # of a run's id; fewer digits are as likely a slip
DIGITS = re.compile("-[0-9a-f]{8}")  # what follows the name that was typed in that of a search
SHOWN = 4  # of several runs or searches that are meant
LEGAL = "a run's id or its first digits, a search's name, trial 12, best, baseline, champion"


@dataclass(frozen=True)
class Named:
    """A run, or a search and which of its trainings: `trial`, a number; `pick`, of PICKS; neither: the search itself.

    search: the MLflow run of one; None: the latest. run: one that is no search.
    """

    search: Any = None
    run: Any = None
    trial: int | None = None
    pick: str = ""


def read(books: Tracker, text: str | None) -> Named:
    """Find what RUN names; None names the latest search. Errors: UserError."""
    if text is None:
        return Named()
    text = " ".join(text.split())
    if found := PICK.fullmatch(text):
        search = None if found["search"] is None else _search(books, found["search"], text)
        return Named(search, trial=None if found["trial"] is None else int(found["trial"]), pick=found["pick"] or "")
    run = _run(books, text)
    return Named(search=run) if run.data.tags.get(Tag.ROLE) == "search" else Named(run=run)


def _search(books: Tracker, name: str, text: str) -> Any:
    run = _run(books, name)
    if run.data.tags.get(Tag.ROLE) != "search":
        raise UserError(f"RUN={text}: {name} is no search, but a training of its own; {make('searches')} lists them")
    return run


def _run(books: Tracker, name: str) -> Any:
    """The run that a word names: a search first, then a run by its id."""
    searches = books.searches()
    named = [run for run in searches if run.info.run_name == name][:1]
    named = named or [run for run in searches if _typed(run.info.run_name) == name]
    found = named or (books.begins(name) if BEGINNING.fullmatch(name) else [])
    if not found and (anew := books.run_of(name) if BEGINNING.fullmatch(name) else None):
        found = [anew]
    if not found:
        deleted = [run for run in books.deleted(role="search") if name in (run.info.run_id, run.info.run_name)]
        if deleted:
            raise UserError(is_deleted(deleted[0]))
        raise UserError(
            f"RUN={name}: no such run and no such search in {books.place}; legal: {LEGAL}; "
            f"{make('searches')} lists the searches"
        )
    if len(found) > 1:
        some = ", ".join(f"{run.info.run_id[:8]} ({run.info.run_name})" for run in found[:SHOWN])
        raise UserError(f"RUN={name}: {len(found)} are meant by that, {some}{', ...' * (len(found) > SHOWN)}; give one")
    return found[0]


def is_deleted(search: Any) -> str:
    """One line on a search whose run is deleted, and the ways on."""
    return (
        f"search {search.info.run_name}: is deleted in MLflow; bring it back in its pages ({make('ui')}, State: "
        f"Deleted), or start another with {make('search', ['search.name=NAME'])}"
    )


def _typed(name: str) -> str:
    """A search's name as it was typed: without the digits that name its question."""
    return name[:-9] if DIGITS.fullmatch(name[-9:]) else name

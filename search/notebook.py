"""What a notebook takes from here: a search begun and waited for, and what searches have found."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.fault import Outside
from search.cli import choose_run
from search.confirmation import sample_quality, stored
from search.report import report
from search.report.report import SearchReport
from search.searches import rows
from search.study import loop

if TYPE_CHECKING:
    from pandas import DataFrame

REFUSED = 2  # exit status


def results(run: str | None = None, overrides: Sequence[str] = (), **settings: Any) -> "DataFrame":
    """The trainings of a search, a row each: trials, the best first, then those on fresh seeds; each param a column.

    - run: a search, as RUN names it; None: the latest.
    - overrides, settings: where it lies, as overrides (["tracking.uri=http://host:5000"]) or by name (store="runs").

    Errors: UserError where there is none.
    """
    books = _books(overrides, settings)
    return _frame(rows.trials(books, choose_run.search_of(books, run).info.run_id))


def _books(overrides: Sequence[str], settings: dict[str, Any]) -> Any:
    return choose_run.tracker(compose(_words(overrides, settings)))


def _words(overrides: Sequence[str], settings: dict[str, Any]) -> list[str]:
    return [*overrides, *(f"{name}={value}" for name, value in settings.items())]


def _frame(found: Sequence[rows.Row]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame(found, columns=rows.columns(found))


def run(overrides: Sequence[str] = (), **settings: Any) -> SearchReport:
    """Search as `make search` does, in a process of its own, and show what it says; what it found.

    overrides, settings: as they are typed, ["search=ablation", "data.root=photos"] or data="digits". An interrupt ends
    it, and the same call continues it. Errors: UserError for what a search refuses, Outside where it ends otherwise.
    """
    words = _words(overrides, settings)
    name = loop.prepare(words).name
    began = subprocess.Popen(
        [sys.executable, "-m", "search", "search", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    last = ""
    assert began.stdout is not None
    try:
        for line in began.stdout:
            print(line, end="")
            last = line.strip() or last
    except KeyboardInterrupt:
        began.send_signal(signal.SIGINT)
        raise
    finally:
        status = began.wait()
    if status == REFUSED:
        raise UserError(last)
    books = choose_run.tracker(compose(words, "search"))
    found = books.find(role="search", study=name)
    if not found:
        raise Outside(last)
    run_id = found[0].info.run_id
    return report.read(books, run_id, stored.stored(books, run_id), sample_quality.stored(books, run_id))

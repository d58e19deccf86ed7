"""What a notebook takes from here: a search begun and waited for, and what searches have found."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from denoise.config.compose import compose
from search.cli import choose_run
from search.searches import rows

if TYPE_CHECKING:
    from pandas import DataFrame


def results(run: str | None = None, overrides: Sequence[str] = (), **settings: Any) -> "DataFrame":
    """The trainings of a search, a row each: trials, the best first, then those on fresh seeds; each param a column.

    - run: a search, as RUN names it; None: the latest.
    - overrides, settings: where it lies, as overrides (["tracking.uri=http://host:5000"]) or by name (store="runs").

    Errors: UserError where there is none.
    """
    books = _books(overrides, settings)
    return _frame(rows.trials(books, choose_run.search_of(books, run).info.run_id))


def _books(overrides: Sequence[str], settings: dict[str, Any]) -> Any:
    return choose_run.tracker(compose([*overrides, *(f"{name}={value}" for name, value in settings.items())]))


def _frame(found: Sequence[rows.Row]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame(found, columns=rows.columns(found))

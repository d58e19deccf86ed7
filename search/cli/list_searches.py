"""The verbs about searches that are there: what there is of them, two side by side, one removed."""

import argparse
from typing import Any

from denoise.config.compose import compose as of_overrides
from denoise.errors import UserError
from search.cli import choose_run
from search.cli.waiting import waits
from search.console.console import console
from search.console.printed_commands import make, named
from search.console.redact import hide, printable
from search.storages.store_folder import store_of
from search.tracking import read_only
from search.tracking.tracker import open_tracker


def searches(options: argparse.Namespace) -> int:
    """List the searches of a store: what each asked, how far it is, what it found."""
    composed = of_overrides(options.overrides)
    with waits(console):
        tracker = choose_run.tracker(composed)
        from search.searches import rows

    choose_run.latest(tracker)  # there is one, or why not
    _list(found := rows.searches(tracker), rows.table_of_searches(found, tracker.place), options.form)
    return 0


def trials(options: argparse.Namespace) -> int:
    """List the trainings of the latest search, or of the search RUN."""
    composed = of_overrides(options.overrides)
    with waits(console):
        tracker = choose_run.tracker(composed)
        from search.searches import rows

    parent = choose_run.search_of(tracker, options.run)
    found = rows.trials(tracker, parent.info.run_id)
    _list(found, rows.table_of_trials(found, parent.info.run_name), options.form)
    return 0


def _list(found: list[dict[str, Any]], table: Any, form: str | None) -> None:
    from search.searches import rows

    if form is None:
        console.print(table)
    else:
        print(printable(hide(rows.text(found, form))))


def compare(options: argparse.Namespace) -> int:
    """Put two searches side by side: in what they differ, and whose best is better."""
    names = [text for text in options.overrides if "=" not in text]
    composed = of_overrides([text for text in options.overrides if "=" in text])
    if len(names) != 2:
        raise UserError(f"{named('compare')}: takes two searches, {len(names)} given; {make('compare', ['A', 'B'])}")
    with waits(console):
        tracker = choose_run.tracker(composed)
        from search.searches import compare as comparing

        found = comparing.compare(tracker, *(choose_run.search_of(tracker, name) for name in names))
    console.print(comparing.table(found))
    for sentence in comparing.sentences(found):
        console.print(sentence)
    return 0


def remove(options: argparse.Namespace) -> int:
    """Remove a search from Optuna's storage, from MLflow and from the disk; without --yes only say what goes."""
    if options.run is None:
        raise UserError(f"{named('remove')}: wants a search by name; {make('searches')} lists them")
    composed = of_overrides(options.overrides, "search")
    with waits(console):
        choose_run.tracker(composed)
        from search.searches import remove as removing
        from search.storages import database

    store = store_of(composed.cfg)
    if unwritten := read_only.why_not(store):
        raise UserError(f"{unwritten}, so nothing can be removed from it")
    tracker = open_tracker(composed.cfg.tracking.uri, composed.cfg.tracking.experiment, store)
    parent = choose_run.to_remove(tracker, options.run)
    url = database.address(composed.cfg.search.storage, store)
    found = removing.find(tracker, parent, database.find_study(url, parent.info.run_name, store))
    if not options.yes:
        for text in removing.ask(found):
            console.print(text, soft_wrap=True)
        return 0
    for text in found.text():
        console.print(text, soft_wrap=True)
    left = removing.remove(tracker, found, url)
    console.print(f"removed{f'; {left}' if left else ''}")
    return 0

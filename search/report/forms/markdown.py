"""A report as Markdown: the description that MLflow shows of a search's run."""

import re

from search.console import mlflow_pages
from search.console.redact import hide, printable
from search.console.tables import Fitting
from search.report.report import INTERACTIVE, SearchReport, Section
from search.tracking.description import code

MOST = 7500  # characters; a tag of MLflow holds 8,000
SPECIAL = re.compile(r"([\\`*\[\]|~#]|(?<!\w)_|_(?!\w))")


def render(report: SearchReport) -> str:
    """The answer, the leaderboard, the confirmation, the verdicts, commands, links; cut where a tag has no room."""
    found = ""
    for rows, whole in ((10, True), (5, True), (3, True), (3, False), (1, False)):
        found = "\n\n".join(filter(None, _blocks(report, rows, whole)))
        if len(found) <= MOST:
            return found
    kept = found[:MOST].rpartition("\n\n")[0]
    return f"{kept}\n\nThe rest stands in report.html."


def escaped(text: str) -> str:
    """A text that Markdown shows as it is, on one line: option names and errors come from users."""
    text = SPECIAL.sub(r"\\\1", printable(hide(" ".join(text.split()))))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def grid(table: Fitting, rows: int) -> str:
    """A table with its first rows."""
    heads, cells = table.shortened(rows, "").content()
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in lines)


def _cell(text: str) -> str:
    return text if text == "---" else f"{escaped(text)}&emsp;"  # MLflow shows no lines between columns


def _blocks(report: SearchReport, rows: int, whole: bool) -> list[str]:
    first, *more = report.answer
    found = [f"**{escaped(first)}**", *map(escaped, more)]
    for part in (report.leaderboard, report.confirmation):
        found += _part(part, rows)
    found += [text for part in report.verdicts if whole for text in _part(part, 0)]
    for part in (report.outcomes, report.cost):
        found += map(escaped, part.said)
    found += ["### Again", "\n".join(f"- {code(command)}: {escaped(says)}" for command, says in report.commands)]
    return [*found, _links(report)]


def _part(part: Section, rows: int) -> list[str]:
    if not part:
        return []
    table = [grid(part.tables[0], rows)] if rows and part.tables else []
    return [f"### {escaped(part.title)}", *table, *map(escaped, part.said)]


def _links(report: SearchReport) -> str:
    """Where MLflow has the run to take, and the page."""

    def at(run_id: str, more: str = "") -> str:
        return mlflow_pages.run_page(report.experiment, run_id, more)

    links = [f"[the best run, whose weights are the champion's]({at(report.best)})"] if report.best else []
    links.append(f"[the whole report]({at(report.run_id, '/artifacts/report.html')})")
    if report.interactive:
        links.append(f"[pictures to hover over]({at(report.run_id, f'/artifacts/{INTERACTIVE}')})")
    return ", ".join(links)

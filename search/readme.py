"""The README's table of components, made from the option files."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from denoise import catalog

README = catalog.CONF.parent / "README.md"
BEGIN, END = "<!-- catalog: made by make catalog -->", "<!-- end of catalog -->"


def markdown() -> str:
    """The catalogue as Markdown: a line of counts, then per kind a table of option, formula, searched parameters."""
    counts = ", ".join(f"{len(catalog.options(kind))} {kind}" for kind in catalog.KINDS)
    total = sum(len(catalog.options(kind)) for kind in catalog.KINDS)
    lines = [f"{total} options: {counts}.", ""]
    for kind in catalog.KINDS:
        lines += [f"**{kind}**", "", "| option | formula | searched | source |", "|---|---|---|---|"]
        for option in catalog.options(kind):
            entry = catalog.entry(kind, option)
            searched = ", ".join(entry.space) or ("control" if entry.control else _needs(entry))
            cells = (f"`{option}`", entry.formula, searched, entry.source)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def refresh(check: bool = False, readme: Path = README) -> int:
    """Print the catalogue and write its table into the README; with `check` only say whether it is fresh (0 or 1)."""
    text = readme.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    fresh = f"{head}{BEGIN}\n{markdown()}\n{END}{tail}"
    if check:
        if fresh != text:
            print(f"{readme.name}: its catalogue is not that of conf/; make catalog writes it anew", file=sys.stderr)
            return 1
        return 0
    show()
    if fresh != text and catalog.folders() == (catalog.CONF,):
        readme.write_text(fresh, encoding="utf-8")
        print(f"{readme.name}: table written")
    return 0


def show() -> None:
    """Print the catalogue as one table."""
    table = Table("kind", "option", "formula", "searched", title="catalogue", title_justify="left", pad_edge=False)
    for kind in catalog.KINDS:
        for i, option in enumerate(catalog.options(kind)):
            entry = catalog.entry(kind, option)
            searched = ", ".join(entry.space) or ("(control)" if entry.control else _needs(entry))
            table.add_row("" if i else kind, option, entry.formula, searched)
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _needs(entry: catalog.Entry) -> str:
    return f"needs {' or '.join(entry.needs)}" if entry.needs else ""

"""The catalogue's pages, made from the option files: a table of all components, and a page per kind."""

import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from denoise.config import catalog
from denoise.errors import UserError
from denoise.paths import repository
from search.catalog_pages import kinds
from search.console.tables import Fitting

HEAD = """# Catalogue

Made by `make catalog` from the files in `conf/`. Each kind has a page: formula, source, parameters, domains, cost; a
drawing of each activation and learning-rate schedule; what each activation does to a distribution and to gradients.
"""


def markdown() -> str:
    """The catalogue as Markdown: a line of counts, then per kind a table of option, formula, searched parameters."""
    entries = {kind: kinds.own_options(kind) for kind in catalog.KINDS}
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in entries.items())
    lines = [HEAD, f"{sum(map(len, entries.values()))} options: {counts}.", ""]
    for kind, found in entries.items():
        lines += [f"## [{kind}]({kind}.md)", "", "| option | formula | searched |", "|---|---|---|"]
        for entry in found:
            searched = ", ".join(entry.space) or ("control" if entry.control else _needs(entry))
            cells = (f"[`{entry.option}`]({kind}.md#{entry.option})", entry.formula, searched)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def written(root: Path) -> dict[Path, str]:
    """Everything that is made from the option files, by path: the table, the pages, the drawings."""
    table = {root / kinds.FOLDER / "README.md": markdown()}
    return table | {root / path: text for path, text in kinds.files().items()}


def refresh(check: bool = False, root: Path | None = None) -> int:
    """Print the catalogue, write what is made from it; with `check` only say whether that is fresh (0 or 1).

    An installed package has no pages: it prints. Errors: UserError for `check` there.
    """
    if (root := root or repository()) is None:
        if check:
            raise UserError("--check: compares docs/kinds of the repository; run it in a clone: make catalog")
        show()
        print("docs/kinds is the repository's: not written here", file=sys.stderr)
        return 0
    wanted = written(root)
    old = sorted(path for path in (root / kinds.FOLDER).rglob("*.*") if path not in wanted)
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        for path in [*stale, *old]:
            print(f"{path.relative_to(root)}: is not that of conf/; make catalog writes it anew", file=sys.stderr)
        return 1 if stale or old else 0
    show()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
        print(f"{path.relative_to(root)}: written")
    for path in old:
        path.unlink()
        print(f"{path.relative_to(root)}: removed, it has no option")
    return 0


def show() -> None:
    """Print the catalogue as one table, with the options of folders that were added."""
    table = Fitting("catalogue", spare=[3])
    for name, width in (("kind", None), ("option", None), ("formula", 30), ("searched", 12)):
        table.add_column(name, min_width=width, overflow="fold")
    for kind in catalog.KINDS:
        for i, option in enumerate(catalog.options(kind)):
            entry = catalog.entry(kind, option)
            searched = ", ".join(entry.space) or ("(control)" if entry.control else _needs(entry))
            table.add_row("" if i else kind, option, escape(entry.formula), searched)
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _needs(entry: catalog.Entry) -> str:
    return f"needs {' or '.join(entry.needs)}" if entry.needs else ""

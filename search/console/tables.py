"""What is read on a screen of any width: tables that give up the columns missed the least, lines that are folded."""

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

Line = Table | Text
SHORTEST = 6  # a bar
LEAST = 10  # a column that is folded
LONGEST = 24  # a longer word may be cut in two
INDENT = "    "


class Fitting(Table):
    """A table that gives up columns where a screen has no room for all, and says below which.

    spare: numbers of the columns that may go, the first one first; several at once as a tuple. A column with a
    `min_width` may be folded; other columns go before it is narrower than that. Any other one is never folded.
    """

    def __init__(self, title: str | Text, spare: Sequence[int | tuple[int, ...]] = ()) -> None:
        super().__init__(title=title, pad_edge=False)
        self.title_justify = self.caption_justify = "left"
        self.title_style = self.header_style = "bold"
        self.spare = [each if isinstance(each, tuple) else (each,) for each in spare]

    def widths(self, room: int) -> dict[int, int]:
        """The columns that stay on a screen of this width, and how wide each is; what is nearly whole is made whole."""
        sizes, spare = {k: _sizes(column) for k, column in enumerate(self.columns)}, list(self.spare)
        while spare and sum(asked for _, asked, _ in sizes.values()) + 3 * len(sizes) - 1 > room:
            gone = spare.pop(0)
            sizes = {k: each for k, each in sizes.items() if k not in gone}
        found = {k: size[0] for k, size in sizes.items()}
        left = room - sum(found.values()) - 3 * len(found) + 1
        for wanted in (1, 2):
            for k in sorted(sizes, key=lambda k: sizes[k][wanted] - found[k]):
                more = max(0, min(left, sizes[k][wanted] - found[k]))
                found[k], left = found[k] + more, left - more
        return found

    def content(self) -> tuple[list[str], list[list[str]]]:
        """The heads of the columns, and the rows, as plain text."""
        heads = [_plain(column.header).replace("\n", " ") for column in self.columns]
        rows = zip(*([_plain(cell) for cell in column.cells] for column in self.columns), strict=True)
        return heads, [list(row) for row in rows]

    def shortened(self, most: int, more: str) -> "Fitting":
        """The same with its first `most` rows and those in bold; below them how many more there are, then `more`."""
        kept = [k for k, row in enumerate(self.rows) if k < most or row.style == "bold"]
        found = Fitting(self.title or "", self.spare)
        for column in self.columns:
            width = column.min_width
            found.add_column(
                column.header, justify=column.justify, no_wrap=column.no_wrap, overflow=column.overflow, min_width=width
            )
        cells = list(zip(*(column.cells for column in self.columns), strict=True))
        for k in kept:
            found.add_row(*cells[k], style=self.rows[k].style)
        left = len(self.rows) - len(kept)
        found.caption = f"{left} more {more}" if left else self.caption
        return found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self.widths(options.max_width)
        gone = [_plain(column.header).replace("\n", " ") for k, column in enumerate(self.columns) if k not in widths]
        gone = list(filter(None, dict.fromkeys(gone)))
        below = [_plain(self.caption or ""), f"no room here for {', '.join(gone)}" if gone else ""]
        shown = Table(title=self.title, caption=Text("\n".join(filter(None, below))) if any(below) else None)
        for name in ("title_justify", "caption_justify", "title_style", "header_style", "pad_edge"):
            setattr(shown, name, getattr(self, name))
        for k, width in widths.items():
            column = self.columns[k]
            shown.add_column(column.header, justify=column.justify, overflow=column.overflow, width=width)
        cells = zip(*(list(self.columns[k].cells) for k in widths), strict=True)
        for row, values in zip(self.rows, cells, strict=True):
            shown.add_row(*values, style=row.style, end_section=row.end_section)
        yield shown


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Lines no wider than `width`, broken between words where that is possible."""
    return textwrap.wrap(text, max(width, 8), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def barred(title: str, done: int, total: int, more: Sequence[str], width: int, longest: int, style: str) -> list[Line]:
    """A title, a bar as long as there is room for, and words; the title above them where there is none for a bar."""
    words, row = list(map(Text, more)), Table.grid(padding=(0, 2, 0, 0))
    room, below = (width - cell_len("  ".join([*before, "", *more])) for before in ([title], []))
    if room >= SHORTEST:
        row.add_row(Text(title, style), ProgressBar(total, done, width=min(longest, room)), *words)
        return [row]
    above = [Text(line, style) for line in wrapped(title, width)]
    if below < SHORTEST:
        return [*above, *map(Text, wrapped("  ".join(more), width, INDENT))]
    row.add_row(ProgressBar(total, done, width=min(longest, below)), *words)
    return [*above, row]


def _sizes(column: Column) -> tuple[int, int, int]:
    """How narrow a column can be with its words whole, how wide it asks to be, how wide it is with nothing folded."""
    lines = [line for cell in (column.header, *column.cells) for line in _plain(cell).split("\n")]
    widest = max(map(cell_len, lines))
    if column.no_wrap or column.min_width is None:
        return widest, widest, widest
    words = [cell_len(word) for line in lines if " " in line for word in line.split()]
    least = min(widest, max([LEAST, *(min(size, LONGEST) for size in words)]))
    return least, min(widest, max(column.min_width, least)), widest


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)

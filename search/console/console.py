"""A console that sends text and nothing else: what it is given may come from somebody's record."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from search.console.redact import hide, printable


class Out(Console):
    """A console whose reader may leave early; passwords are hidden, and no character of a text steers the terminal."""

    def __init__(self, **more: Any) -> None:
        super().__init__(markup=False, highlight=False, **more)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Draw, and clean the text of each segment; what rich itself tells the terminal stays."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n":
                yield segment
            else:
                yield Segment(hide(printable(segment.text)), segment.style)


console = Out(width=None if sys.stdout.isatty() else 140)  # what the verbs print on

"""What a terminal shows beside the results: that something happens, and notes."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.live import Live
from rich.spinner import Spinner

from search.console.console import Out
from search.console.redact import line


def waits(console: Out) -> AbstractContextManager[object]:
    """Show on a terminal that something happens, before there is anything to show."""
    if not sys.stdout.isatty():  # a worker's pipe carries messages, whatever the environment says of colours
        return nullcontext()
    shown = Spinner("dots", "loading torch, Lightning and MLflow")
    return Live(shown, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


def say(lines: Sequence[str]) -> None:
    """Print notes, a line each, where they are no result."""
    for each in lines:
        print(line(each), file=sys.stderr)

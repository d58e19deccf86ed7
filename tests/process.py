"""Verbs in processes of their own that may be killed, forked from one that has imported what they need.

A start from nothing takes seconds, nearly all of them imports.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

NEEDED = ["tests.imported"]
_context: list[ForkServerContext] = []


def context() -> ForkServerContext:
    """Where processes are forked; begun by the first that is."""
    if not _context:
        made = multiprocessing.get_context("forkserver")
        made.set_forkserver_preload(NEEDED)
        _context.append(made)
    return _context[0]


def start(arguments: Sequence[str], output: Path, before: str = "", errors: Path | None = None) -> ForkServerProcess:
    """Begin a verb; what it prints goes to a file, what it says on stderr to `errors` or there too.

    `before` is code that it runs first.
    """
    process = context().Process(target=_run, args=(list(arguments), str(output), before, str(errors or "")))
    process.start()
    return process


def run(
    arguments: Sequence[str], output: Path, before: str = "", errors: Path | None = None, timeout: float = 240
) -> int:
    """Run a verb to its end and return its exit status."""
    process = start(arguments, output, before, errors)
    process.join(timeout)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"not done after {timeout} s: {output.read_text()}")
    assert process.exitcode is not None
    return process.exitcode


def _run(arguments: list[str], output: str, before: str, errors: str) -> None:
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if errors else 1, 2)
    from search.__main__ import main

    exec(before, {"__name__": "before"})
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

"""Verbs in processes of their own that may be killed, forked from one that has imported what they need.

A start from nothing takes seconds, nearly all of them imports.
"""

import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

NEEDED = ["tests.imported"]
PATIENCE = 600.0  # seconds that nothing takes, on the slowest and busiest machine: only what hangs is ended
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
    arguments: Sequence[str], output: Path, before: str = "", errors: Path | None = None, timeout: float = PATIENCE
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


def until(condition: Callable[[], object], lives: Callable[[], bool] = lambda: True, said: Path | None = None) -> None:
    """Wait until something holds, while `lives` does; where it does not come to hold, `said` has why."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        why = said.read_text() if said is not None and said.exists() else ""
        assert lives() or condition(), f"it ended before: {why}"
        assert time.monotonic() < ends, f"no progress: {why}"
        time.sleep(0.01)


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """From here on this thread sleeps no more: for how long it would have."""
    asked, sleep, here = list[float](), time.sleep, threading.current_thread()
    monkeypatch.setattr(time, "sleep", lambda s: asked.append(s) if threading.current_thread() is here else sleep(s))
    return asked


def children(pid: int) -> list[int]:
    """The processes that a process, any of its threads, has started and that are still there."""
    found: list[int] = []
    for file in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def gone(pid: int) -> bool:
    """Whether a process runs no more; it may be there still, where nothing has asked how it ended."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def free_port() -> int:
    """A port below those that systems give away, and another one in each process that asks."""
    for port in range(10_000 + 37 * os.getpid() % 20_000, 32_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")

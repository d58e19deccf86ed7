"""One worker of a store at a time: for what must not happen twice, such as making a table or ending a search."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(store: Path, what: str, waits: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold `what` of a store; where another process holds it call `waits` once, and wait until it ends or is killed.

    A lock of the system's on a file: no process that has gone holds one. It binds the workers of one machine, or of
    several on a file system that they share.
    """
    folder = store / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{what}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waits is not None:
                waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""One worker of a search at a time: for what must not happen twice, such as making a table or ending a search."""

import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from denoise.errors import UserError
from search.runtime.retry import tried_again

Waits = Callable[[], None]
LOOK_SECONDS = 0.2  # so often one that has something to do meanwhile tries again


@contextmanager
def lock(store: Path, what: str, waits: Waits | None = None, url: str = "") -> Iterator[None]:
    """Hold `what`; where another process holds it wait until that ends or is killed, and call `waits` again and again.

    Among the processes of one store by a lock of the system's on a file, among those of several machines by one of
    PostgreSQL's at `url`: no process that has gone holds either. Errors: UserError where the store cannot be locked.
    """
    folder = store / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f"{what}.lock").open("w")
    except OSError as error:
        raise UserError(
            f"store={store}: cannot be written ({error.strerror}); give another with store=FOLDER"
        ) from error
    with file:
        try:
            while waits is not None and not _locked(file):
                waits()
                time.sleep(LOOK_SECONDS)
            if waits is None:
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"store={store}: its file system has no locks ({error.strerror}); give another with store=FOLDER"
            ) from error
        with everywhere(url, what, waits):
            yield


def _locked(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def everywhere(url: str, what: str, waits: Waits | None = None) -> Iterator[None]:
    """Hold `what` among all that use the PostgreSQL at `url`; of another database nothing is held."""
    if not url.startswith("postgresql"):
        yield
        return
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    key = {"key": int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], signed=True)}
    connect = tried_again(_engine(url).connect, "the storage")
    while True:
        with connect() as connection:
            if waits is None:
                connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
            if waits is None or connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
                try:
                    yield
                finally:
                    with suppress(SQLAlchemyError):  # a server that has gone holds nothing
                        connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
                return
        waits()
        time.sleep(LOOK_SECONDS)


@cache
def _engine(url: str) -> Any:
    from sqlalchemy import create_engine

    return create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)

"""One worker of a search at a time: for what must not happen twice, such as making a table or ending a search."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from denoise.errors import UserError
from search.runtime.retry import tried_again

Waits = Callable[[], None]


@contextmanager
def lock(store: Path, what: str, waits: Waits | None = None, url: str = "") -> Iterator[None]:
    """Hold `what`; where another process holds it call `waits` once, and wait until it ends or is killed.

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
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waits is not None:
                waits()
                waits = None
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"store={store}: its file system has no locks ({error.strerror}); give another with store=FOLDER"
            ) from error
        with everywhere(url, what, waits):
            yield


@contextmanager
def everywhere(url: str, what: str, waits: Waits | None = None) -> Iterator[None]:
    """Hold `what` among all that use the PostgreSQL at `url`; of another database nothing is held."""
    if not url.startswith("postgresql"):
        yield
        return
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    key = {"key": int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], signed=True)}
    with tried_again(_engine(url).connect, "the storage")() as connection:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
            if waits is not None:
                waits()
            connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
        try:
            yield
        finally:
            with suppress(SQLAlchemyError):  # a server that has gone holds nothing
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)


@cache
def _engine(url: str) -> Any:
    from sqlalchemy import create_engine

    return create_engine(url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)

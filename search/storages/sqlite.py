"""SQLite: the address of a file, and the file of an address, whatever signs the path has; and its write-ahead log."""

import atexit
import re
from functools import cache
from pathlib import Path
from sqlite3 import Connection
from typing import Any
from urllib.parse import quote, unquote
from weakref import WeakSet

PREFIX = "sqlite:///"
# % and ? mean something in an address, { and } in one of Optuna's. The slashes are quoted with them: MLflow makes the
# folder of an address as it stands there, and that would be another one, beside the store.
SIGNS = re.compile(r"[%?{}]")
ENDS = ("", "-wal", "-shm", "-journal")  # of the files of an SQLite database
_engines: WeakSet[Any] = WeakSet()  # that have connected


def url(path: Path) -> str:
    """The address of a file, by its absolute path, for MLflow, Optuna and SQLAlchemy alike."""
    text = str(path.resolve())
    return f"{PREFIX}{quote(text, safe='') if SIGNS.search(text) else text}"


def file(url: str) -> Path | None:
    """The file that an address names; None for another database, and for one in memory."""
    text = unquote(url.removeprefix(PREFIX).partition("?")[0])
    return Path(text) if url.startswith(PREFIX) and text not in ("", ":memory:") else None


@cache
def write_ahead() -> None:
    """From here on each SQLite database that this process opens by SQLAlchemy has a write-ahead log.

    A kill then loses nothing that was committed, and a commit waits for no disk. The last connection that is closed
    puts the log into the database.
    """
    from sqlalchemy import Engine, event

    def opened(connection: Any, record: Any) -> None:
        if isinstance(connection, Connection):
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.close()

    event.listen(Engine, "connect", opened)
    event.listen(Engine, "engine_connect", lambda connection: _engines.add(connection.engine))
    atexit.register(close)


def close(path: Path | None = None) -> None:
    """Close the connections to an SQLite file; to all without one. They are opened again where they are used."""
    for engine in list(_engines):
        if path is None or file(str(engine.url)) == path.resolve():
            engine.dispose()

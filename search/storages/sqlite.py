"""SQLite: the address of a file, and the file of an address, whatever signs the path has; and its write-ahead log."""

import atexit
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

PREFIX = "sqlite:///"
# % and ? mean something in an address, { and } in one of Optuna's. The slashes are quoted with them: MLflow makes the
# folder of an address as it stands there, and that would be another one, beside the store.
SIGNS = re.compile(r"[%?{}]")


def url(path: Path) -> str:
    """The address of a file, by its absolute path, for MLflow, Optuna and SQLAlchemy alike."""
    text = str(path.resolve())
    return f"{PREFIX}{quote(text, safe='') if SIGNS.search(text) else text}"


def file(url: str) -> Path | None:
    """The file that an address names; None for another database, and for one in memory."""
    text = unquote(url.removeprefix(PREFIX).partition("?")[0])
    return Path(text) if url.startswith(PREFIX) and text not in ("", ":memory:") else None


def write_ahead(engine: Any) -> None:
    """SQLite with a write-ahead log: a kill loses nothing that was committed, and a commit waits for no disk."""
    from sqlalchemy import event

    def pragmas(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    event.listen(engine, "connect", pragmas)
    engine.dispose()
    atexit.register(engine.dispose)  # the last connection that is closed puts the log into the database

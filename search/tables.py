"""MLflow's empty tables, made once at the install and copied into each new store: making them takes a second."""

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from search import sqlite
from search.turn import turn

ENDS = ("", "-wal", "-shm", "-journal")  # of the files of an SQLite database


def template() -> Path:
    """Where the install keeps them, by MLflow's version: another one has other tables."""
    return Path(sys.prefix) / "share" / "denoise-search" / f"mlflow-{version('mlflow')}.db"


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Within, no other process opens the SQLite file at `uri`, and a new one has its tables already.

    Two processes that make MLflow's tables at once break them. Where they cannot be laid, MLflow makes them itself.
    """
    database = sqlite.file(uri)
    if database is None or not (home := database.parent).is_dir() or not os.access(home, os.W_OK):
        yield
        return
    with turn(home, "open"):
        # an address may carry options; a log that another database left would be played into ours by SQLite
        if "?" not in uri and not any(Path(f"{database}{end}").exists() for end in ENDS):
            with suppress(OSError, ImportError):
                _copy(template(), database)
        yield


def make(at: Path) -> None:
    """Let MLflow make its tables in a file that is not there yet."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    for name in ("mlflow", "alembic"):  # the import sets them anew
        logging.getLogger(name).setLevel(logging.ERROR)
    at.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "empty.db"
        engine = create_engine(sqlite.url(made))
        _initialize_tables(engine)
        engine.dispose()
        _copy(made, at)


def _copy(source: Path, target: Path) -> None:
    """Copy a file to a new name, never half there; one that is there meanwhile stays."""
    partial = target.with_name(f"{target.name}.part")
    try:
        shutil.copyfile(source, partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(partial, target)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if not template().exists():
        make(template())

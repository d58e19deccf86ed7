"""MLflow's empty tables, made once at the install and copied into each new store: making them takes a second."""

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from sqlite3 import DatabaseError, connect

from denoise.errors import Refusal
from search.storages import sqlite
from search.storages.lock import turn

VERSION = "alembic_version"
HOLDING = {"runs": "1", "registered_models": "1", "experiments": "experiment_id != 0"}  # of what a user has made
ENDS = ("", "-wal", "-shm", "-journal")  # of the files of an SQLite database


def template() -> Path:
    """Where the install keeps them, by MLflow's version: another one has other tables."""
    return Path(sys.prefix) / "share" / "denoise-search" / f"mlflow-{version('mlflow')}.db"


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Within, no other process opens the SQLite file at `uri`, and it has its tables already.

    Two processes that make MLflow's tables at once break them, and so does one that is killed while it makes them. One
    that is half made and holds nothing is made anew. Errors: Refusal where there is no room for it.
    """
    database = sqlite.file(uri)
    if database is None or not (home := database.parent).is_dir() or not os.access(home, os.W_OK):
        yield
        return
    with turn(home, "open"):
        if "?" not in uri:  # an address may carry options
            try:
                _lay(database)
            except OSError as error:
                raise Refusal(
                    f"store={home}: its mlflow.db cannot be made ({error.strerror or error}); give another with "
                    "store=FOLDER"
                ) from error
        yield


def _lay(database: Path) -> None:
    if database.exists():
        if not half_made(database):
            return
        for end in reversed(ENDS):  # a log that is left would be played into the new one by SQLite
            Path(f"{database}{end}").unlink(missing_ok=True)
    elif any(Path(f"{database}{end}").exists() for end in ENDS):
        return
    if template().exists():
        _copy(template(), database)
    else:
        with suppress(ImportError):  # where MLflow calls it otherwise it makes them itself
            make(database)


def half_made(database: Path) -> bool:
    """Whether MLflow's tables are not all there, and none of them holds a run, a model or an experiment of ours."""
    if not database.stat().st_size and not Path(f"{database}-wal").exists():
        return True
    try:
        with closing(connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=60)) as opened:
            tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            kept = [name for name in HOLDING if name in tables]
            if any(opened.execute(f"SELECT 1 FROM {name} WHERE {HOLDING[name]} LIMIT 1").fetchone() for name in kept):
                return False
            version = opened.execute("SELECT version_num FROM alembic_version").fetchall() if VERSION in tables else []
        foreign = {name for name in tables - _whole() if not name.startswith("_alembic_tmp")}
        return not foreign and (not version or bool(_whole() - tables))
    except DatabaseError:  # no database at all, or not one of MLflow's: it is left as it is
        return False


@cache
def _whole() -> set[str]:
    """The tables that this MLflow has, as far as the install has noted them."""
    if not template().exists():
        return set()
    with closing(connect(f"{template().as_uri()}?mode=ro&immutable=1", uri=True)) as opened:
        return {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def make(at: Path) -> None:
    """Let MLflow make its tables in a file that is not there yet."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    for name in ("mlflow", "alembic"):  # the import sets them anew
        logging.getLogger(name).setLevel(logging.ERROR)
    at.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=at.parent, prefix=".mlflow-") as folder:  # its room is what counts
        made = Path(folder) / "empty.db"
        engine = create_engine(sqlite.url(made))
        try:
            _initialize_tables(engine)
        except OperationalError as error:  # SQLite's word for a full disk
            raise OSError(str(error.orig)) from error
        finally:
            engine.dispose()
        _copy(made, at)


def _copy(source: Path, target: Path) -> None:
    """Copy a file to a new name, never half there; one that is there meanwhile stays."""
    partial = target.with_name(f"{target.name}.part")
    try:
        shutil.copyfile(source, partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            os.link(partial, target)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not target.exists():
                partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if not template().exists():
        make(template())

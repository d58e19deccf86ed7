"""A store that cannot be written, such as one on a disk that is mounted to be read: read from a copy of its database.

SQLite needs to write beside a database with a write-ahead log, also to read it; and what a killed process has left in
that log is to be seen. What is written goes to the copy, a temporary folder that ends with this process.
"""

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from denoise.errors import UserError
from search.storages import sqlite
from search.storages.sqlite import ENDS
from search.storages.store_folder import check_store
from search.tracking.artifacts import Files
from search.tracking.tracker import Tracker

TRIES = 5  # a database that another machine writes meanwhile is copied again


def why_not(store: Path) -> str:
    """Why a store cannot be written, in one line; empty where it can."""
    database = store / "mlflow.db"
    try:
        check_store(store)
    except UserError as error:
        return str(error).partition(";")[0]
    if database.exists() and not os.access(database, os.W_OK):
        return f"store={store}: cannot be written (mlflow.db is only to be read)"
    return ""


def opened(experiment: str, store: Path) -> Tracker:
    """Open the tracker of a store that cannot be written. Errors: UserError where it cannot be read either."""
    folder = Path(tempfile.mkdtemp(prefix="denoise-search-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        for _ in range(TRIES):
            before = _state(store)
            for end in ENDS:
                (folder / f"mlflow.db{end}").unlink(missing_ok=True)
                with suppress(FileNotFoundError):
                    if end != "-shm":  # SQLite makes it anew
                        shutil.copyfile(store / f"mlflow.db{end}", folder / f"mlflow.db{end}")
            if _state(store) == before:
                break
    except OSError as error:
        raise UserError(f"store={store}: cannot be read ({error.strerror})") from error
    try:
        tracker = Tracker(sqlite.url(folder / "mlflow.db"), experiment, folder, new=False)
    except UserError as error:  # of the store, and not of its copy
        raise UserError(str(error).replace(str(folder), str(store))) from error
    tracker.files = Files(folder, tracker.experiment_id, source=store)
    tracker.place = str(store / "mlflow.db")
    return tracker


def put(store: Path, name: str, content: bytes) -> Path:
    """Write a file into a store; into the current folder where the store cannot be written. Errors: UserError.

    It is whole, or what was there before.
    """
    refused = why_not(store)
    for path in [Path(name)] if refused else [store / name, Path(name)]:
        partial = path.with_name(f"{name}.part")
        try:
            partial.write_bytes(content)
            return partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            why, refused = error.strerror, refused or f"store={store}: cannot be written ({error.strerror})"
    raise UserError(f"{refused}; {name} cannot be written here either ({why})")


def _state(store: Path) -> list[tuple[int, int] | None]:
    """Size and time of each file of the database."""
    found: list[tuple[int, int] | None] = []
    for end in ENDS:
        try:
            status = (store / f"mlflow.db{end}").stat()
            found.append((status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            found.append(None)
    return found

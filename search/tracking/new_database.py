"""A new store's MLflow database, made by MLflow in a folder of its own and moved into place whole."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from denoise.errors import UserError
from search.storages import sqlite
from search.storages.lock import lock


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Within, no other process opens the SQLite file at `uri`, and it has its tables already.

    Two processes that make MLflow's tables at once break them, and so does one that is killed while it makes them.
    Errors: UserError where there is no room for it.
    """
    database = sqlite.file(uri)
    if database is None or not (home := database.parent).is_dir() or not os.access(home, os.W_OK):
        yield
        return
    with lock(home, "open"):
        if "?" not in uri and not any(home.glob(f"{database.name}*")):  # an address may carry options
            try:
                make(database)
            except OSError as error:
                raise UserError(
                    f"store={home}: its mlflow.db cannot be made ({error.strerror or error}); give another with "
                    "store=FOLDER"
                ) from error
        yield


def make(database: Path) -> None:
    """Let MLflow make a database that is not there; it appears whole or not at all."""
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import OperationalError

    for name in ("mlflow", "alembic"):  # the import sets them anew
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=database.parent, prefix=".mlflow-") as folder:  # its room is what counts
        made = Path(folder) / database.name
        try:
            MlflowClient(tracking_uri=sqlite.url(made)).search_experiments(max_results=1)
        except OperationalError as error:  # SQLite's word for a full disk
            raise OSError(str(error.orig)) from error
        finally:
            sqlite.close(made)
        made.rename(database)

"""Optuna's storage: a study in a database, opened or made."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from denoise.errors import UserError
from search.console.redact import hide, hide_of
from search.storages import sqlite
from search.storages.lock import everywhere
from search.storages.trials import Trials

CLOCK_SECONDS = 60.0  # the clocks of a database and of what uses it may differ by so much


def address(url: str | None, store: Path) -> str:
    """The storage that the user names, with the driver that is installed; None: the store's own.

    Without it SQLAlchemy would take another driver by default.
    """
    plain = "postgresql://"
    own = url or sqlite.url(store / "optuna.db")
    return f"postgresql+psycopg2://{own.removeprefix(plain)}" if own.startswith(plain) else own


def open_study(url: str, name: str, objectives: int, store: Path | None = None) -> Trials:
    """Open a study in the storage at `url`, or make it. Errors: UserError where the storage cannot be used."""
    with _refusing(url, store), everywhere(url, "open"):  # two processes that make the tables at once break them
        storage = _storage(url)
        _check_clock(url, storage)
        optuna.create_study(storage=storage, study_name=name, directions=["minimize"] * objectives, load_if_exists=True)
        return Trials(name, storage)


def find_study(url: str, name: str, store: Path | None = None) -> Trials | None:
    """The study of this name in the storage at `url`; None where there is none. Errors: UserError as above."""
    if (file := sqlite.file(url)) and not file.exists():
        return None
    with _refusing(url, store):
        storage = _storage(url)
        known = optuna.get_all_study_summaries(storage, include_best_trial=False)
        return Trials(name, storage) if name in {one.study_name for one in known} else None


@contextmanager
def _refusing(url: str, store: Path | None) -> Iterator[None]:
    """Within, what the storage at `url` says is a refusal; `store`: whose own database it is."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sqlite.write_ahead()
    try:
        yield
    except (SQLAlchemyError, ImportError, OSError, ValueError, optuna.exceptions.StorageInternalError) as error:
        if isinstance(error, UserError):
            raise
        reason = hide_of(url, " ".join(str(error).split()))[:160]
        said = f"search.storage={hide(url)}: cannot be used ({reason}); leave it out for SQLite in the store, "
        said += "or give postgresql://host/database, with PGUSER and PGPASSWORD in the environment"
        if store is not None:
            said = f"store={store}: its optuna.db cannot be used ({reason}); put back one that can, or give "
            said += "another folder with store=FOLDER"
        raise UserError(said) from error


def _storage(url: str) -> RDBStorage:
    lost = {"pool_pre_ping": True}  # a connection that a server has closed is made anew
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else lost
    opened = partial(RDBStorage, url, engine_kwargs=options)
    try:
        return opened()
    except SQLAlchemyError as error:  # a program that holds no lock of ours, such as a dashboard, made the tables
        if not isinstance(error, IntegrityError) and "already exists" not in str(error):
            raise
        return opened()


def _check_clock(url: str, storage: RDBStorage) -> None:
    """Refuse a machine whose clock is wrong: by it the workers of other machines would look dead. Errors: UserError."""
    if not url.startswith("postgresql"):
        return
    with storage.engine.connect() as connection:
        theirs = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)
    if abs(off := time.time() - theirs) > CLOCK_SECONDS:
        raise UserError(
            f"search.storage={hide(url)}: this machine's clock is {off:+.0f} seconds from the database's; set one of "
            f"them right (timedatectl), {CLOCK_SECONDS:g} seconds are legal"
        )

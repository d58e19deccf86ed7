"""Optuna's storage: a study in a database, opened or made."""

import warnings
from functools import partial
from pathlib import Path

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import Study
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from denoise.errors import Refusal
from search.console.redact import hide, hide_of
from search.storages.liveness import BEAT_SECONDS, SILENT_SECONDS
from search.storages.lock import everywhere
from search.storages.rdb import Cached, Storage
from search.storages.sqlite import write_ahead


def open_study(
    url: str, name: str, objectives: int, sampler: BaseSampler, pruner: BasePruner, store: Path | None = None
) -> Study:
    """Open a study in the storage at `url`, or make it. Errors: Refusal where the storage cannot be used."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with everywhere(url, "open"):  # two processes that make the tables at once break them
            storage = _storage(url)
            if url.startswith("sqlite"):
                write_ahead(storage.engine)
            return optuna.create_study(
                storage=Cached(storage),
                study_name=name,
                directions=["minimize"] * objectives,
                load_if_exists=True,
                sampler=sampler,
                pruner=pruner,
            )
    except (SQLAlchemyError, ImportError, OSError, ValueError, optuna.exceptions.StorageInternalError) as error:
        if isinstance(error, Refusal):
            raise
        reason = hide_of(url, " ".join(str(error).split()))[:160]
        said = f"search.storage={hide(url)}: cannot be used ({reason}); leave it out for SQLite in the store, "
        said += "or give postgresql://host/database, with PGUSER and PGPASSWORD in the environment"
        if store is not None:  # whose own database it is
            said = f"store={store}: its optuna.db cannot be used ({reason}); put back one that can, or give "
            said += "another folder with store=FOLDER"
        raise Refusal(said) from error


def _storage(url: str) -> Storage:
    lost = {"pool_pre_ping": True}  # a connection that a server has closed is made anew
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else lost
    with warnings.catch_warnings():  # heartbeats are marked experimental since 2021
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        opened = partial(
            Storage, url, engine_kwargs=options, heartbeat_interval=BEAT_SECONDS, grace_period=SILENT_SECONDS
        )
        try:
            return opened()
        except SQLAlchemyError as error:  # a program that holds no lock of ours, such as a dashboard, made the tables
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            return opened()

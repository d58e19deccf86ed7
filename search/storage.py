"""Optuna's storage, and whose a running trial is."""

import copy
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from denoise import catalog
from denoise.refusal import Refusal
from search.keyed import KeyedSampler
from search.mode import Joint
from search.rdb import Cached, Storage
from search.tracking import hide_password, write_ahead
from search.view import View

RUNG = "completed_rung_"
ORPHAN_SECONDS = 60.0  # a trial that nobody has claimed for so long was left behind by a kill


def open_study(url: str, name: str, cfg: DictConfig, asks: Joint | None = None) -> Study:
    """Open a study in the storage at `url`, or make it. Errors: Refusal where the storage cannot be used."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = Storage(url, engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None)
        if url.startswith("sqlite"):
            write_ahead(storage.engine)
        return optuna.create_study(
            storage=Cached(storage),
            study_name=name,
            directions=["minimize"] * (len(asks.objectives) if asks else 1),
            load_if_exists=True,
            sampler=sampler(cfg, asks),
            pruner=catalog.call(cfg.pruner, where="pruner"),
        )
    except (SQLAlchemyError, ImportError, OSError, optuna.exceptions.StorageInternalError) as error:
        reason = hide_password(" ".join(str(error).split()))[:160]
        raise Refusal(
            f"search.storage={hide_password(url)}: cannot be used ({reason}); leave it out for SQLite in the store, "
            "or give postgresql://user:password@host/database"
        ) from error


def sampler(cfg: DictConfig, asks: Joint | None = None) -> KeyedSampler:
    """Build the config's sampler, seeded anew for each trial. Errors: Refusal for a parameter it does not take."""
    node: Any = OmegaConf.to_container(cfg.sampler, resolve=True)
    history = node.pop("history", None)

    def make(seeds: Mapping[str, int]) -> Any:
        with warnings.catch_warnings():  # half of Optuna's samplers are marked experimental, some for years
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return catalog.call(node, where="sampler", optional=seeds)

    made = KeyedSampler(make, cfg.seed, history, asks.round if asks else None, asks.history if asks else None)
    made.fresh(0)
    return made


Seen = Callable[[Study, FrozenTrial], Study]  # the study as it is to be seen for a trial


def should_stop(study: Study, trial: Trial, rivals: Seen, again: bool = False) -> bool:
    """Ask the pruner whether a trial stops at its last report, among those that it is compared with.

    With `again` it was asked there before, and a kill lost its answer: Optuna's successive halving notes in the trial
    that a rung was passed, and would not look at it a second time.
    """
    frozen = study._storage.get_trial(trial._trial_id)
    seen = rivals(study, frozen)
    if again:
        frozen = copy.deepcopy(frozen)
        last = frozen.intermediate_values[max(frozen.intermediate_values)]
        noted = {name for name, value in frozen.system_attrs.items() if name.startswith(RUNG) and value == last}
        frozen.system_attrs = {name: value for name, value in frozen.system_attrs.items() if name not in noted}
        seen = View(seen, lambda other: other.number != trial.number)
    return study.pruner.prune(seen, frozen)


def claim(trial: Trial) -> None:
    """Mark a trial as run by this process."""
    trial.set_user_attr("worker", me())


def me() -> dict[str, Any]:
    """This process: host, pid and when it began, since pids come again."""
    return {"host": os.uname().nodename, "pid": os.getpid(), "began": _began(os.getpid())}


def _began(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def alive(worker: dict[str, Any]) -> bool:
    """Tell whether a worker still runs; one on another host is taken to."""
    if worker["host"] != os.uname().nodename:
        return True
    try:
        os.kill(worker["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _began(worker["pid"]) == worker["began"]


def left_behind(study: Study) -> list[FrozenTrial]:
    """The running trials whose worker is gone."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    workers = [trial.user_attrs.get("worker") for trial in running]
    others = any(worker is not None and worker != me() and alive(worker) for worker in workers)
    found = []
    for trial, worker in zip(running, workers, strict=True):
        if worker is None:
            began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            if not others or time.time() - began > ORPHAN_SECONDS:
                found.append(trial)
        elif not alive(worker):
            found.append(trial)
    return found

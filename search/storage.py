"""Optuna's storage, and whose a running trial is."""

import copy
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
from search.turn import everywhere
from search.view import View

RUNG = "completed_rung_"
ORPHAN_SECONDS = 60.0  # a trial that nobody has claimed for so long was left behind by a kill
BEAT_SECONDS, SILENT_SECONDS = 20, 120  # so often a trial under way says so; silent for so long it is dead


def open_study(url: str, name: str, cfg: DictConfig, asks: Joint | None = None) -> Study:
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


def _storage(url: str) -> Storage:
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
    with warnings.catch_warnings():  # heartbeats are marked experimental since 2021
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return Storage(url, engine_kwargs=options, heartbeat_interval=BEAT_SECONDS, grace_period=SILENT_SECONDS)


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
    """Mark a trial as run by this process, which is alive now."""
    trial.storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    trial.set_user_attr("worker", me())


@contextmanager
def beating(trial: Trial) -> Iterator[None]:
    """Within, a trial says every BEAT_SECONDS that it is still under way; what goes wrong with that is tried again."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(SQLAlchemyError, optuna.exceptions.StorageInternalError):
                trial.storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def me() -> dict[str, Any]:
    """This process: host, pid and when it began, since pids come again."""
    return {"host": os.uname().nodename, "pid": os.getpid(), "began": _began(os.getpid())}


def _began(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def runs_here(worker: dict[str, Any]) -> bool:
    """Tell whether a worker of this host still runs."""
    try:
        os.kill(worker["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _began(worker["pid"]) == worker["began"]


def elsewhere(study: Study) -> list[FrozenTrial]:
    """The running trials of other workers that still run."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    lost = {trial.number for trial in left_behind(study)}
    return [t for t in running if t.number not in lost and t.user_attrs.get("worker") != me()]


def left_behind(study: Study) -> list[FrozenTrial]:
    """The running trials whose worker is gone: its process has ended, or on another host it has long been silent.

    A container that is started again has another host name, so the trials of the one before are those of another host.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    workers = [trial.user_attrs.get("worker") for trial in running]
    here = os.uname().nodename
    silent: set[int] = set()
    if any(worker is not None and worker["host"] != here for worker in workers):
        silent = set(study._storage._get_stale_trial_ids(study._study_id))  # type: ignore[attr-defined]

    def alive(trial: FrozenTrial, worker: dict[str, Any]) -> bool:
        return trial._trial_id not in silent if worker["host"] != here else runs_here(worker)

    living = [worker is not None and alive(trial, worker) for trial, worker in zip(running, workers, strict=True)]
    others = any(lives and worker != me() for lives, worker in zip(living, workers, strict=True))
    found = []
    for trial, worker, lives in zip(running, workers, living, strict=True):
        if worker is None:
            began = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            if not others or time.time() - began > ORPHAN_SECONDS:
                found.append(trial)
        elif not lives:
            found.append(trial)
    return found

"""Whose a running trial is, whether that process lives, and how one ended."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from search.runtime import watchdog
from search.storages.attributes import OfTrial
from search.storages.trials import Trials

BEAT_SECONDS, SILENT_SECONDS = 20, 120  # so often a trial under way says so; silent for so long it is dead


def claim(study: Trials, number: int) -> None:
    """Mark a trial that was left behind as run by this process, which is alive now."""
    study.note(number, {OfTrial.WORKER: me(), OfTrial.BEAT: time.time()})


@contextmanager
def beating(study: Trials, number: int) -> Iterator[None]:
    """Within, a trial says every BEAT_SECONDS that it is still under way; what goes wrong with that is tried again."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(SQLAlchemyError, optuna.exceptions.StorageInternalError):
                study.beat(number)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def me() -> dict[str, Any]:
    """This process: host, pid and when it began; and who watches it, where somebody does."""
    whole = {"host": os.uname().nodename} | watchdog.this()
    return whole | ({"watcher": dict(watchdog.watcher)} if watchdog.watcher else {})


def runs_here(worker: dict[str, Any]) -> bool:
    """Tell whether a worker of this host still runs."""
    try:
        os.kill(worker["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return watchdog.began(worker["pid"]) == worker["began"]


def elsewhere(study: Trials) -> list[FrozenTrial]:
    """The running trials of other workers that still run."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    lost = {trial.number for trial in abandoned(study, running)}
    return [t for t in running if t.number not in lost and t.user_attrs.get(OfTrial.WORKER) != me()]


def abandoned(study: Trials, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Of the running trials those whose worker is gone: its process has ended, or on another host it is long silent.

    Of a process that is watched the watcher says how it ended, which is waited for while that lives. A container that
    is started again has another host name, so the trials of the one before are those of another host. Hosts are
    silent by the clock: those of one search may differ by SILENT_SECONDS - BEAT_SECONDS.
    """
    workers = [trial.user_attrs.get(OfTrial.WORKER) for trial in running]
    here = os.uname().nodename
    silent_since = time.time() - SILENT_SECONDS

    def gone(trial: FrozenTrial, worker: dict[str, Any] | None) -> bool:
        if worker is None:
            return True
        if worker["host"] != here:
            return bool(trial.user_attrs.get(OfTrial.BEAT, 0.0) < silent_since)
        return not runs_here(worker) and (not _watched(worker) or death(study, worker) is not None)

    return [trial for trial, worker in zip(running, workers, strict=True) if gone(trial, worker)]


def _watched(worker: dict[str, Any]) -> bool:
    watcher = worker.get("watcher")
    return watcher is not None and runs_here(watcher)


def note_death(study: Trials, found: watchdog.Death) -> None:
    """Note how a process of this host ended, for the process that takes up its trial."""
    study.set_user_attr(_name(found | {"host": os.uname().nodename}), found)


def death(study: Trials, worker: dict[str, Any]) -> watchdog.Death | None:
    """How a worker ended, where its watcher has said so."""
    found: watchdog.Death | None = study.user_attrs.get(_name(worker))
    return found


def count_death(study: Trials, trial: FrozenTrial) -> None:
    """Note at a trial that is taken up how the process ended that was at it, where that may be the trial's fault."""
    worker = trial.user_attrs.get(OfTrial.WORKER)
    found = death(study, worker) if worker is not None else None
    if worker is not None and found is not None and found["counts"]:
        step = max(trial.intermediate_values, default=0)
        before = trial.user_attrs.get(OfTrial.DIED_AT, {})
        study.note(trial.number, {OfTrial.DIED_AT: before | {_name(worker): [step, found["how"]]}})


def _name(worker: Mapping[str, Any]) -> str:
    return f"ended:{worker['host']}:{worker['pid']}:{worker['began']}"

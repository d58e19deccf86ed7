"""Optuna's storage, and whose a running trial is."""

import copy
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.pruners import NopPruner, PercentilePruner, WilcoxonPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from denoise.config import catalog
from denoise.errors import Refusal
from search.console.redact import hide, hide_of
from search.runtime import watchdog as watch
from search.samplers.seeded import KeyedSampler
from search.storages import rdb
from search.storages.ledger import earlier, under_way
from search.storages.lock import everywhere
from search.storages.rdb import Cached, Storage
from search.storages.snapshot import View, still
from search.study.modes import Joint
from search.tracking.tracker import write_ahead

RUNG = "completed_rung_"
COMPLETE_ONLY = (NopPruner, PercentilePruner, WilcoxonPruner)  # they look at no trial that is under way
DEATHS = "died_at"  # of a trial: which processes died at it, after which reported step, and how
DECIDED = "decided"  # the last step at which the pruner was asked
POLL_SECONDS, LOST_SECONDS = 0.05, 60.0  # a trial waits so long for one that was lost to be taken up again
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
                pruner=catalog.call(cfg.pruner, kind="pruner"),
            )
    except (SQLAlchemyError, ImportError, OSError, ValueError, optuna.exceptions.StorageInternalError) as error:
        if isinstance(error, Refusal):
            raise
        reason = hide_of(url, " ".join(str(error).split()))[:160]
        said = f"search.storage={hide(url)}: cannot be used ({reason}); leave it out for SQLite in the store, "
        said += "or give postgresql://host/database, with PGUSER and PGPASSWORD in the environment"
        if cfg.search.storage is None:
            said = f"store={cfg.store}: its optuna.db cannot be used ({reason}); put back one that can, or give "
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


def sampler(cfg: DictConfig, asks: Joint | None = None) -> KeyedSampler:
    """Build the config's sampler, seeded anew for each trial. Errors: Refusal for a parameter it does not take."""
    node: Any = OmegaConf.to_container(cfg.sampler, resolve=True)
    history = node.pop("history", None)

    def make(seeds: Mapping[str, int]) -> Any:
        with warnings.catch_warnings():  # half of Optuna's samplers are marked experimental, some for years
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return catalog.call(node, kind="sampler", optional=seeds)

    given = (asks.round, asks.history, lambda: asks.lag) if asks else ()
    made = KeyedSampler(make, cfg.seed, history, *given)
    made.fresh(0)
    return made


Says = Callable[[str], None]
Seen = Callable[[Study, FrozenTrial], Study]  # the study as it is to be seen for a trial


def should_stop(
    study: Study, trial: Trial, rivals: Seen, lag: int = 1, again: bool = False, says: Says | None = None
) -> bool:
    """Ask the pruner whether a trial stops at its last report, among those that it is compared with.

    Of the trials before it those that were begun less than `lag` before are seen as they were at the same step, which
    is waited for, and none that comes after it: so it does not matter which of them still run. `says` is told where one
    of them was lost and nobody takes it up again: then it is judged without.
    With `again` it was asked there before, and a kill lost its answer: Optuna's successive halving notes in the trial
    that a rung was passed, and would not look at it a second time.
    """
    by_values = getattr(study.pruner, "by_values", False)
    alone = lag == 1 or isinstance(study.pruner, COMPLETE_ONLY)
    trials = study.get_trials(deepcopy=False) if alone else _caught_up(study, trial, lag, by_values, says)
    frozen = trials[earlier(trials, trial.number) - 1]
    step = max(frozen.intermediate_values)
    known = earlier(trials, trial.number - lag)
    beside = trials[known : earlier(trials, trial.number - 1)]
    seen = still(study, [*trials[:known], *(_until(other, step) for other in beside), frozen])
    if again:
        frozen = copy.deepcopy(frozen)
        last = frozen.intermediate_values[step]
        noted = {name for name, value in frozen.system_attrs.items() if name.startswith(RUNG) and value == last}
        frozen.system_attrs = {name: value for name, value in frozen.system_attrs.items() if name not in noted}
        seen = View(seen, lambda other: other.number != trial.number)
    stops = study.pruner.prune(rivals(seen, frozen), frozen)
    if not alone and not by_values:
        rdb.note(trial, {DECIDED: step})
    return stops


def _caught_up(study: Study, trial: Trial, lag: int, by_values: bool, says: Says | None) -> list[FrozenTrial]:
    """The trials, as soon as each before `trial` is over or has come to its step.

    A pruner that does not decide by values alone notes what it decided: then that is waited for.
    """
    lost_since: float | None = None
    waited = False
    while True:
        trials = study.get_trials(deepcopy=False)
        mine = earlier(trials, trial.number) - 1
        step = max(trials[mine].intermediate_values)
        behind = [
            other
            for other in trials[earlier(trials, trial.number - lag) : mine]
            if other.state == TrialState.RUNNING and step > _came_to(other, by_values)
            if other._trial_id not in _given_up
        ]
        if (
            not behind
        ):  # read once more: what a trial is compared by is written before its report, and was read after it
            return study.get_trials(deepcopy=False) if waited else trials
        waited = True
        if len(left_behind(study, behind)) < len(behind):
            lost_since = None
        elif time.monotonic() - (lost_since := lost_since or time.monotonic()) > LOST_SECONDS:
            _given_up.update(other._trial_id for other in behind)
            numbers = ", ".join(str(other.number) for other in behind)
            if says is not None:
                says(f"trial {numbers} was left behind and is not taken up: trial {trial.number} is judged without it")
        with watch.voice.waiting():
            time.sleep(POLL_SECONDS)


_given_up: set[int] = set()  # trials that are not waited for any more


def _came_to(trial: FrozenTrial, by_values: bool) -> int:
    if by_values:
        return max(trial.intermediate_values, default=-1)
    return int(trial.user_attrs.get(DECIDED, -1))


def _until(trial: FrozenTrial, step: int) -> FrozenTrial:
    """A trial as it was at a step."""
    then = under_way(trial)
    then.intermediate_values = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    return then


def claim(trial: Trial, overrides: list[str]) -> None:
    """Mark a trial, with what was drawn for it, as run by this process, which is alive now."""
    trial.storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    rdb.note(trial, {"worker": me(), "overrides": overrides})


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
    """This process: host, pid and when it began; and who watches it, where somebody does."""
    whole = {"host": os.uname().nodename} | watch.this()
    return whole | ({"watcher": dict(watch.watcher)} if watch.watcher else {})


def runs_here(worker: dict[str, Any]) -> bool:
    """Tell whether a worker of this host still runs."""
    try:
        os.kill(worker["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return watch.began(worker["pid"]) == worker["began"]


def elsewhere(study: Study) -> list[FrozenTrial]:
    """The running trials of other workers that still run."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    lost = {trial.number for trial in left_behind(study, running)}
    return [t for t in running if t.number not in lost and t.user_attrs.get("worker") != me()]


def left_behind(study: Study, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Of the running trials those whose worker is gone: its process has ended, or on another host it is long silent.

    A trial is begun and claimed in one turn, so one that nobody has claimed was left there. Of a process that is
    watched the watcher says how it ended, which is waited for while that lives. A container that is started
    again has another host name, so the trials of the one before are those of another host.
    """
    workers = [trial.user_attrs.get("worker") for trial in running]
    here = os.uname().nodename
    silent: set[int] = set()
    if any(worker is not None and worker["host"] != here for worker in workers):
        silent = set(study._storage._get_stale_trial_ids(study._study_id))  # type: ignore[attr-defined]

    def gone(trial: FrozenTrial, worker: dict[str, Any] | None) -> bool:
        if worker is None:
            return True
        if worker["host"] != here:
            return trial._trial_id in silent
        return not runs_here(worker) and (not _watched(worker) or death(study, worker) is not None)

    return [trial for trial, worker in zip(running, workers, strict=True) if gone(trial, worker)]


def _watched(worker: dict[str, Any]) -> bool:
    watcher = worker.get("watcher")
    return watcher is not None and runs_here(watcher)


def note_death(study: Study, found: watch.Death) -> None:
    """Note how a process of this host ended, for the process that takes up its trial."""
    study.set_user_attr(_name(found | {"host": os.uname().nodename}), found)


def death(study: Study, worker: dict[str, Any]) -> watch.Death | None:
    """How a worker ended, where its watcher has said so."""
    found: watch.Death | None = study.user_attrs.get(_name(worker))
    return found


def count_death(study: Study, trial: Trial) -> None:
    """Note at a trial that is taken up how the process ended that was at it, where that may be the trial's fault."""
    worker = trial.user_attrs.get("worker")
    found = death(study, worker) if worker is not None else None
    if worker is not None and found is not None and found["counts"]:
        step = max(study._storage.get_trial(trial._trial_id).intermediate_values, default=0)
        trial.set_user_attr(DEATHS, trial.user_attrs.get(DEATHS, {}) | {_name(worker): [step, found["how"]]})


def _name(worker: Mapping[str, Any]) -> str:
    return f"ended:{worker['host']}:{worker['pid']}:{worker['began']}"

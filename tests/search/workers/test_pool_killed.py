"""Processes at one search that are killed: the trials and the confirmation are those of one that was left in peace."""

import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest

from search.runtime import watchdog
from search.storages import liveness
from search.storages.attributes import OfTrial
from search.storages.trials import CONFIRM as CONFIRM_STUDY
from search.tracking.tracker import Tracker
from tests.process import PATIENCE, children, gone, start, until
from tests.quick import content
from tests.search.study.test_loop import SEARCH, books

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
optuna.logging.set_verbosity(optuna.logging.ERROR)


LONG = [
    *("trainer.max_steps=24", "trainer.val_every=6", "search.n_trials=8", "search.lag=4"),
    "sampler.n_startup_trials=3",
]
# a process that begins its second trial only when another one has begun one
TOGETHER = """
import os, time
from search.study import loop as study


def beside(session):
    calls.append(session)
    while len(calls) == 2 and not any(
        trial.user_attrs.get("worker", {}).get("pid") not in (None, os.getpid()) for trial in session.trials()
    ):
        time.sleep(0.01)
    return begin(session)


calls, begin, study.next_trial = [], study.next_trial, beside
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process finds, with a confirmation."""
    store = tmp_path_factory.mktemp("alone") / "runs"
    output = store.parent / "output"
    process = start(["search", f"store={store}", *SEARCH, *LONG, *CONFIRM], output)
    process.join(PATIENCE)
    assert process.exitcode == 0, output.read_text()
    return trials_of(store), confirmed(store)


CONFIRM = ["search.confirm.finalists=1", "search.confirm.seeds=3"]


def trials_of(store: Path) -> list[Any]:
    return content(books(store).study)


def confirmed(store: Path) -> list[Any]:
    """The trainings of the confirmation: which config, seed, value, and how the run ended."""
    tracker = Tracker(None, "denoise-search", store)
    runs = tracker.find(role="confirm")
    tags = [(run.data.tags["config_sha256"], run.data.tags["seed"]) for run in runs]
    return sorted((*tag, run.data.metrics["val/loss"], run.info.status) for tag, run in zip(tags, runs, strict=True))


UNDER_WAY = """
SELECT value_json FROM trials JOIN trial_user_attributes USING (trial_id)
WHERE state = 'RUNNING' AND key = 'worker' AND trial_id IN (SELECT trial_id FROM trial_intermediate_values)
"""


def test_workers_that_are_killed_are_replaced_and_change_nothing(alone: Any, tmp_path: Path) -> None:
    """One while it has a trial, one while it has a training of the confirmation."""
    store, output = tmp_path / "runs", tmp_path / "output"
    process = start(["search", f"store={store}", *SEARCH, *LONG, *CONFIRM, "search.workers=2"], output, TOGETHER)
    assert process.pid is not None
    pid = process.pid

    def reported(worker: int) -> bool:
        """Whether a worker is within a trial that has reported."""
        try:
            with closing(sqlite3.connect(f"file:{store / 'optuna.db'}?mode=ro", uri=True)) as database:
                return any(json.loads(who)["pid"] == worker for (who,) in database.execute(UNDER_WAY))
        except sqlite3.Error:  # not there yet
            return False

    until(lambda: children(pid), process.is_alive, output)
    (first,) = children(pid)
    while True:
        until(lambda: reported(first), process.is_alive, output)
        os.kill(first, signal.SIGSTOP)
        if reported(first):
            break
        os.kill(first, signal.SIGCONT)  # its trial has ended meanwhile
    os.kill(first, signal.SIGKILL)
    until(lambda: "confirming" in output.read_text() and children(pid), process.is_alive, output)
    for child in children(pid):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    process.join(PATIENCE)
    said = output.read_text()
    assert process.exitcode == 0, said
    assert "worker 1 ended with -9 (trial " in said and "killed by SIGKILL" in said
    assert "another takes its place" in said
    died = [trial.user_attrs.get(OfTrial.DIED_AT, {}) for trial in trials_known(store)]
    assert sum(map(len, died)) == 1 and all("SIGKILL" in how for each in died for _, how in each.values())
    assert (trials_of(store), confirmed(store)) == alone


def trials_known(store: Path) -> list[Any]:
    file = store / "optuna.db"
    url = f"sqlite:///{file}"
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:  # Optuna would make the tables
            database.execute("SELECT study_name FROM studies").fetchone()[0]
        (name,) = (each for each in optuna.get_all_study_names(url) if not each.endswith(CONFIRM_STUDY))
        return optuna.load_study(study_name=name, storage=url).get_trials(deepcopy=False)
    except Exception:  # not there yet
        return []


def test_workers_end_with_the_process_that_started_them(alone: Any, tmp_path: Path) -> None:
    """Killed, it takes them along; the same command with one process goes on to the same end."""
    store, output = tmp_path / "runs", tmp_path / "output"
    command = ["search", f"store={store}", *SEARCH, *LONG, *CONFIRM]
    process = start([*command, "search.workers=3"], output)
    assert process.pid is not None
    pid = process.pid
    until(lambda: len(trials_known(store)) > 3 and len(children(pid)) == 2, process.is_alive, output)
    workers = children(pid)
    process.kill()
    process.join()
    until(lambda: all(map(gone, workers)))
    again = start(command, output)
    again.join(PATIENCE)
    assert again.exitcode == 0, output.read_text()
    assert (trials_of(store), confirmed(store)) == alone


def test_a_refusal_of_the_stores_leaves_no_worker(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from search.__main__ import main

    file = tmp_path / "file"
    file.touch()
    assert main(["search", f"store={file}/sub", *SEARCH, "search.workers=4"]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    commands = []
    for pid in children(os.getpid()):
        with suppress(OSError):  # it has ended meanwhile
            commands.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    assert not [command for command in commands if b"--worker" in command]


def test_a_process_that_has_ended_and_was_not_asked_how_runs_no_more() -> None:
    """As where the first process of a container leaves those of others unasked."""
    process = subprocess.Popen(["sleep", "100"])
    worker = {"host": os.uname().nodename, "pid": process.pid, "began": watchdog.began(process.pid)}
    assert liveness.runs_here(worker)
    process.kill()
    until(lambda: gone(process.pid))
    assert not liveness.runs_here(worker)
    process.wait()

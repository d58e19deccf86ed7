"""A search that is told to end in its confirmation: real signals to a real process; nothing stays RUNNING."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from denoise.config.compose import compose
from denoise.fault import Outside
from denoise.interruption import ENDS
from denoise.training import train
from search.__main__ import main
from search.runtime import watchdog
from search.study import finish, loop
from search.study import reconcile as books
from search.tracking.tracker import Run, Tracker, open_tracker
from search.trial.run import open_run
from tests import process, quick

pytestmark = pytest.mark.faults

# in that process: trainings that are formulas; one of the confirmation says where it is, and waits for the signal
BEFORE = """
import time
from denoise import interruption
from denoise.training import train
from search.study import objective as attempt
from search.trial import run as trial
from search.confirmation import trainings
from tests import quick

def wait(*given):
    open({here!r}, "w").close()
    while True:
        time.sleep(0.01)

def fit(cfg, module, *given):
    found = quick.formula(cfg, module, *given)
    found.weights = {{}}
    if cfg.trainer.test_samples and {where!r} == "fit":
        wait()
    return found

train.prepare, train.counted, train.fit, attempt._keep = (lambda *a: None), (lambda *a: {{}}), fit, (lambda *a: None)
if {where!r} == "keep":
    trainings.weights.keep = wait
interruption.HURRY_SECONDS = 1000.0
"""
FEW = [*quick.SMALL[:-1], *quick.NUMBERS, "search.n_trials=2", "search.workers=1", "pruner=none"]


@pytest.mark.parametrize(
    ("number", "where"),
    [(signal.SIGINT, "keep"), (signal.SIGHUP, "fit")],
    ids=["SIGINT after a training", "SIGHUP in a training"],
)
def test_all_runs_are_closed_and_what_there_is_is_shown(number: signal.Signals, where: str, tmp_path: Path) -> None:
    here, said = tmp_path / "here", tmp_path / "said"
    before = BEFORE.format(here=str(here), where=where)
    running = process.start(["search", f"store={tmp_path / 'runs'}", *FEW], said, before)
    process.until(here.exists, running.is_alive, said)
    for _ in range(2):  # a terminal's, and the one that a starter hands on
        os.kill(running.pid, number)  # type: ignore[arg-type]
    running.join(process.PATIENCE)
    text = said.read_text()
    assert running.exitcode == 130, text
    assert "stopped with 2 of 2 trials over" in text and "Best: trial" in text
    assert text.splitlines()[-1] == "interrupted; the same command resumes it"
    with closing(sqlite3.connect(tmp_path / "runs" / "mlflow.db")) as books:
        runs = dict(books.execute("SELECT name, status FROM runs"))
    ended = {name: runs.pop(name) for name in list(runs) if name.startswith(("000 ", "001 "))}
    assert len(ended) == 2 and set(ended.values()) == {"FINISHED"} and list(runs.values()) == ["KILLED"] * 2, runs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["fit", "save"])
def test_a_training_that_is_interrupted_says_what_the_same_command_does(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: Any) -> Any:
        raise KeyboardInterrupt

    quick.free(monkeypatch)
    monkeypatch.setattr(train, "prepare", lambda cfg: SimpleNamespace(start=[]))
    monkeypatch.setattr(*((train, "fit") if where == "fit" else (Run, "artifacts")), interrupted)
    given = quick.SMALL[:2]
    assert main(["train", f"store={tmp_path / 'runs'}", *given]) == 130
    assert capsys.readouterr().err == "interrupted; the same command begins anew, as another run\n"
    with closing(sqlite3.connect(tmp_path / "runs" / "mlflow.db")) as books:
        assert list(books.execute("SELECT name, status FROM runs")) == [(f"train {' '.join(given)}", "KILLED")]


PLACES = [
    *((Run, "params"), (Run, "artifacts"), (Tracker, "has"), (loop, "take_over"), (books, "settle")),
    *((loop, "next_trial"), (train, "fit"), (finish, "end")),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Outside("no space left")])
def test_no_run_stays_open_wherever_a_search_ends(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*given: Any, **more: Any) -> Any:
        raise error

    for life, (owner, name) in enumerate(PLACES):
        quick.a_new_process(monkeypatch, life)
        with monkeypatch.context() as patch, pytest.raises(type(error)):
            quick.free(patch)
            patch.setattr(quick, "free", lambda patch: None)
            patch.setattr(owner, name, ends)
            quick.run(tmp_path / "runs", [*quick.NUMBERS, "search.n_trials=2"], patch)
        with closing(sqlite3.connect(tmp_path / "runs" / "mlflow.db")) as books_:
            left = list(books_.execute("SELECT name FROM runs WHERE status = 'RUNNING'"))
        assert left == [], (owner, name)
    quick.a_new_process(monkeypatch, len(PLACES))
    found, _ = quick.run(tmp_path / "runs", [*quick.NUMBERS, "search.n_trials=2"], monkeypatch)
    assert len(found) == 2 and {state for _, state, _ in found} <= {"COMPLETE", "PRUNED"}


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_was_killed_is_closed_when_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, composed = open_tracker(None, "denoise-search", tmp_path), compose([])
    here, this = os.uname().nodename, watchdog.this()
    dead = [this | {"began": "0"}, {"pid": 2**22 + 1, "began": "5"}]

    def begun(role: str, who: dict[str, Any]) -> str:
        monkeypatch.setattr(watchdog, "this", lambda: who)
        return open_run(tracker, composed, [], role, role, reproduces="0").run_id

    def status(run: str) -> str:
        return str(tracker.client.get_run(run).info.status)

    alive = begun("train", this)
    killed = [begun(role, who) for role, who in zip(("train", "reproduce"), dead, strict=True)]
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="elsewhere"))
    elsewhere = begun("train", dead[0])
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=here))
    odd = tracker.start("odd", {"role": "train", "process": "[3"}, {}).run_id
    last = begun("reproduce", this)
    assert [status(run) for run in killed] == ["KILLED"] * 2
    assert {status(run) for run in (alive, elsewhere, odd, last)} == {"RUNNING"}


def test_a_signal_that_is_ignored_stays_so_and_a_late_second_one_ends_at_once() -> None:
    code = """
import os, signal, sys
from denoise import interruption
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with interruption.interruptible():
    os.kill(os.getpid(), signal.SIGHUP)
    interruption.HURRY_SECONDS = -1.0
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        print("once", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
print("not here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=process.PATIENCE)
    assert (done.returncode, done.stdout) == (130, "once\n"), done.stderr
    assert len(ENDS) == 3 and not re.search("Traceback", done.stderr)

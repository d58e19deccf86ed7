"""Processes that are watched: how one ended is known, another continues, and nothing outlives its watcher."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.runtime import watchdog
from search.storages.attributes import OfTrial
from search.trial.deadly import deadly
from tests.process import PATIENCE, context, until
from tests.search.study.test_loop import SEARCH, books

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
WORK = """
import json, os, signal, sys, time
from search.runtime import watchdog
def work():
    life = len(watchdog.deaths)
    print(json.dumps([life, os.getpid(), [each["how"] for each in watchdog.deaths]]), flush=True)
    watchdog.voice.silence = SILENCE if life < 3 else None
    {work}
sys.exit(watchdog.watch(work))
"""


def watching(work: str, silence: float | None = None, **more: Any) -> "subprocess.Popen[str]":
    """A process that watches one that does `work`, `life` lives after the first; three may be silent for so long."""
    code = f"SILENCE = {silence}\n{WORK.format(work=work)}"
    return subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True, **more)


def lives(said: str) -> list[Any]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("status", [0, 1, 2, 130, 7])
def test_what_ends_because_it_means_to_is_not_begun_again(status: int) -> None:
    process = watching(f"return {status}")
    said, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, len(lives(said)), errors) == (status, 1, "")


@pytest.mark.parametrize(
    ("dies", "how"),
    [
        ("os._exit(0)", "exit status 0"),
        ("os._exit(130)", "exit status 130"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("time.sleep(100)", "search.silence=0.4"),
    ],
)
def test_what_dies_or_stands_still_at_a_trial_is_begun_again_and_knows_of_it(dies: str, how: str) -> None:
    at = f"with watchdog.voice.at('trial 3', trial=True):\n        {dies} if life < 3 else None\n    return 0"
    process = watching(at, 0.4 if "sleep" in dies else None)
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    *_, (life, _, known) = lives(said)
    assert life == 3 and len(known) == 3 and all(how in each for each in known)
    assert errors.count("trial 3: ") == errors.count("\n") == 3 and errors.count(how) == 3


def test_what_dies_outside_of_a_trial_twice_is_given_up() -> None:
    process = watching("os.abort()")
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and len(lives(said)) == 2
    assert (
        errors.splitlines()[-1]
        == "the search: its process was killed by SIGABRT; that is the second time, so it ends here"
    )


def test_what_it_forked_itself_may_live_longer(tmp_path: Path) -> None:
    """A component's child holds the pipe open by which its process is heard; that does not hide a death."""
    fork = "child = os.fork()\n    print(json.dumps(child), flush=True) if child else time.sleep(300)\n    os.abort()"
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", f"SILENCE = None\n{WORK.format(work=fork)}"], stdout=file, stderr=file
        )
    try:
        assert process.wait(PATIENCE) == 1
    finally:
        process.kill()
        found = [int(line) for line in output.read_text().splitlines() if line.isdigit()]
        for child in found:
            os.kill(child, signal.SIGKILL)
    assert len(found) == 2, output.read_text()


def test_an_error_is_shown_and_not_tried_again() -> None:
    process = watching("raise ValueError('odd')")
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and len(lives(said)) == 1 and errors.endswith("ValueError: odd\n")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_handed_on_once(end: signal.Signals) -> None:
    """To one that takes it as it is meant; a terminal tells both, which is one wish."""
    inner = """
    from denoise.interruption import Interrupted, interruptible
    with interruptible():
        try:
            print("ready", flush=True); time.sleep(100)
        except Interrupted:
            time.sleep(0.2)
            return 130"""
    process = watching(inner, start_new_session=True)
    assert process.stdout is not None
    while "ready" not in (said := process.stdout.readline()):
        assert said, process.communicate()[1]
    os.killpg(process.pid, end)
    assert process.communicate(timeout=PATIENCE)[1] == "" and process.returncode == 130


def test_what_is_watched_ends_with_its_watcher() -> None:
    process = watching("time.sleep(100)")
    assert process.stdout is not None
    _, pid, _ = json.loads(process.stdout.readline())
    process.kill()
    process.wait()
    until(lambda: watchdog.began(pid) in ("", "ended"))
    process.communicate()


def test_a_watcher_that_stood_still_takes_that_for_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    seen = watchdog.Watched(os.getpid())
    seen.hear({"at": "trial 1", "silence": 5.0, "seconds": 20.0, "trial": True})
    for _ in range(9):
        now[0] += 0.5
        assert not seen.look()
    now[0] += 3600.0  # the machine slept
    assert not seen.look()
    now[0] += 1.0
    assert seen.look() and seen.why == "over search.silence=5: no step in that time"
    assert not seen.look()  # once
    other = watchdog.Watched(os.getpid())
    other.hear({"at": "trial 1", "silence": None, "seconds": 20.0, "trial": True})
    other.hear({"waited": 7.0})  # for another trial
    for _ in range(2 * 37):
        now[0] += 0.5
        assert not other.look()
    now[0] += 0.5
    assert other.look() and other.why.startswith(watchdog.OVER)
    assert other.death(-9)["counts"]


def test_deaths_with_a_report_between_are_none_of_the_configs() -> None:
    """What kills its process kills it at the same place; a kill from outside comes anywhere."""
    killed, silent = watchdog.how(-9), f"{watchdog.SILENT}=3: no step in that time"

    def ends(*deaths: tuple[int, str]) -> str | None:
        noted = {f"ended:host:{k}:1": list(death) for k, death in enumerate(deaths)}
        rejected = deadly(SimpleNamespace(user_attrs={OfTrial.DIED_AT: noted}))  # type: ignore[arg-type]
        return rejected and rejected.kind

    assert ends() is ends((0, killed)) is ends((0, killed), (3, killed), (6, killed)) is None
    assert ends((0, killed), (0, killed)) == ends((0, killed), (3, silent), (3, killed)) == "crashed"
    assert ends((0, killed), (3, killed), (3, silent)) == "hung"
    assert ends((3, f"{watchdog.OVER}=1: it did not end itself")) == "cap"


COMPONENT = """
import os, signal, time, torch
class Deadly(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
    def forward(self, x):
        if torch.is_grad_enabled() and self.how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if torch.is_grad_enabled() and self.how == "hang":
            time.sleep(1000)
        if torch.is_grad_enabled() and self.how == "leave":
            raise SystemExit(3)
        return torch.relu(x)
"""


def _watched(arguments: list[str], output: str) -> None:
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    from search.__main__ import main

    os._exit(watchdog.watch(lambda: main(arguments)))


@pytest.mark.faults
def test_a_trial_that_kills_its_process_fails_and_the_search_comes_to_its_end(tmp_path: Path) -> None:
    """A crash and a hang are tried twice, what a component raises once; all three books say the same."""
    store, mine = tmp_path / "runs", tmp_path / "mine"
    (mine / "activation").mkdir(parents=True)
    (mine / "deadly.py").write_text(COMPONENT)
    (mine / "activation" / "deadly.yaml").write_text("# deadly\n# here\n_target_: deadly.Deadly\nhow: none\n")
    starts = ",".join(f'["activation=deadly","activation.how={how}"]' for how in ("crash", "hang", "leave"))
    command = ["search", "--config-dir", str(mine), f"store={store}", *SEARCH, f"search.enqueue=[{starts}]"]
    command += ["search.n_trials=4", "search.workers=1", "search.silence=8", "search.kinds.activation=[silu,deadly]"]
    output = tmp_path / "output"
    process = context().Process(target=_watched, args=(command, str(output)))
    process.start()
    process.join(PATIENCE)
    said = output.read_text()
    assert process.exitcode == 0, said
    assert said.count("another process continues") == 4
    found = books(store).by_number()
    kinds = {number: (r.outcome, r.tags.get("failure_kind")) for number, r in found.items()}
    assert kinds == {
        0: ("complete", None),
        1: ("failed", "crashed"),
        2: ("failed", "hung"),
        3: ("failed", "error"),
    }
    assert "killed by SIGSEGV" in found[1].failure and "no step in that time" in found[2].failure
    assert [trial.state.name for trial in books(store).study.trials] == ["COMPLETE", "FAIL", "FAIL", "FAIL"]

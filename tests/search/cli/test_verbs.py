"""Every verb as a person types it: what it prints, what it leaves, and its exit status."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load, load_file, save

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.training import train
from search.__main__ import main
from search.analysis.ranking import best
from search.cli import best_file, mlflow_server
from search.cli.from_make import words
from search.tracking.record import Record
from search.tracking.tracker import Tracker
from search.trial.config_hash import config_sha256
from tests import quick, tiny
from tests.mlflow_server import answers
from tests.process import PATIENCE, children, free_port, gone, run, until

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[3]
TINY = [*tiny.TINY, "data.batch_size=16", "trainer.max_steps=8", "trainer.val_every=2"]
PNG = b"\x89PNG\r\n\x1a\n"
ANSI = "\x1b"


@dataclass
class Done:
    """A search of four trials, as a person would have run it."""

    store: Path
    output: str
    parent: str
    records: list[Record]

    @property
    def best(self) -> Record:
        found = best(self.records)
        assert found is not None
        return found


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("verbs")
    store, output, errors = folder / "runs", folder / "output", folder / "errors"
    command = ["search", f"store={store}", *TINY, "search.n_trials=4", "search.confirm.finalists=0"]
    assert run(command, output, errors=errors) == 0, errors.read_text()
    assert errors.read_text() == "", "nothing is wrong, so nothing is said on stderr"
    tracker = Tracker(None, "denoise-search", store)
    (parent,) = tracker.searches()
    return Done(store, output.read_text(), parent.info.run_id, tracker.records(parent.info.run_id))


def test_search_prints_plain_lines_into_a_pipe(done: Done) -> None:
    assert ANSI not in done.output and "\r" not in done.output
    lines = [line for line in done.output.splitlines() if line.startswith("trial ")]
    assert [line.split()[1] for line in lines] == ["0", "1", "2", "3"]
    assert all("complete" in line or "pruned" in line or "failed" in line for line in lines)
    assert "baseline" in lines[0] and "[4/4" in lines[3]


def test_search_ends_with_the_leaderboard_and_what_to_type_next(done: Done) -> None:
    tail = done.output[done.output.index("Best: trial") :]
    assert f"{done.best.value:.4f}" in tail and "rank" in tail
    assert re.search(rf"Best: trial {done.best.number}\b", tail)
    found = printed(tail)
    assert set(found) == {"ui", "best", "reproduce", "report"}
    assert all(words == [f"store={done.store}"] for words in found.values()), "what was typed is needed again"


def test_train_ends_with_what_to_type_next(trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, _ = trained
    assert main(["train", f"store={store}", *TINY]) == 0
    out = capsys.readouterr().out
    (run_id,) = re.findall(r"^run (\w+)$", out, re.MULTILINE)
    where, named = [f"store={store}"], ["--run", run_id]
    assert printed(out) == {"ui": where, "sample": [*named, *where], "reproduce": [*named, *where]}


@pytest.mark.parametrize("verb", ["best", "report", "reproduce", "sample"])
@pytest.mark.parametrize("arguments", [[], ["--run", "abc"]])
def test_what_a_refusal_says_to_type_is_about_the_same_store(
    verb: str, arguments: list[str], done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = done.store if arguments else tmp_path / "no search"
    assert main([verb, f"store={store}", *arguments, "--config-dir", str(ROOT / "examples" / "own_component")]) == 2
    (words,) = printed(capsys.readouterr().err).values()
    assert words == ["--config-dir", str(ROOT / "examples" / "own_component"), f"store={store}"]


def test_train_is_tracked_as_a_run_without_a_parent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs"
    assert main(["train", f"store={store}", *TINY, "activation=relu"]) == 0
    out = capsys.readouterr().out
    tracker = Tracker(None, "denoise-search", store)
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert "mlflow.parentRunId" not in run.data.tags and run.info.status == "FINISHED"
    assert run.data.tags["role"] == "train" and run.data.params["activation"] == "relu"
    assert f"val/loss {run.data.metrics['val/loss']:.6f}" in out and run.info.run_id in out
    assert run.data.tags["weights_sha256"][:16] in out
    names = {item.path for item in tracker.client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "samples.png", "weights"} <= names
    assert tracker.searches() == []


@pytest.mark.parametrize(
    ("verb", "more"),
    [("train", ["normalization=batch_norm"]), ("search", ["search.n_trials=1"])],
    ids=["train", "search"],
)
def test_a_note_on_a_small_batch_is_one_line_on_stderr(
    verb: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, f"store={tmp_path / 'runs'}", *TINY, *more, "data.batch_size=8"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: normalization=batch_norm wants data.batch_size=16 or more: ")


def test_a_training_that_diverges_ends_with_1_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs"
    wild = ["optimizer=sgd", "optimizer.space.lr.high=1e9", "optimizer.lr=1e8", "trainer.log_every=1"]
    assert main(["train", f"store={store}", *TINY, *wild]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "diverged at step" in err
    tracker = Tracker(None, "denoise-search", store)
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED" and run.data.tags["failure_kind"] == "diverged"


def printed(out: str) -> dict[str, list[str]]:
    """The commands that are printed, by verb: what from_make.py hands to the program."""
    found = re.findall(r"""\bmake ([a-z]+)((?: [A-Z]+=(?:"(?:[^"\\]|\\.)*"|[^\s;,]+))*)""", out)
    given = {verb: dict(word.split("=", 1) for word in shlex.split(rest)) for verb, rest in found}
    return {verb: words(["search"], variables)[1:] for verb, variables in given.items()}


def typed(out: str) -> list[str]:
    """The overrides in the printed command, as a shell would hand them on."""
    (line,) = [line for line in out.splitlines() if line.startswith("make train ")]
    (arguments,) = [word.removeprefix("ARGS=") for word in shlex.split(line) if word.startswith("ARGS=")]
    return shlex.split(arguments)


def test_the_command_of_best_trains_to_the_same_value(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["best", f"store={done.store}"]) == 0
    out = capsys.readouterr().out
    assert f"{done.best.value:.6f}" in out and done.best.run_id in out
    assert main(["best", f"store={done.store}", "--long"]) == 0
    assert typed(capsys.readouterr().out) == [f"store={done.store}", *done.best.overrides]
    assert set(typed(out)) < {f"store={done.store}", *done.best.overrides}, "only what is no default"
    assert main(["train", *typed(out), f"store={tmp_path / 'runs'}"]) == 0
    tracker = Tracker(None, "denoise-search", tmp_path / "runs")
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.data.metrics["val/loss"] == done.best.value
    assert run.data.tags["weights_sha256"] == done.best.tags["weights_sha256"]


def test_best_yaml_is_the_same_config(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["best", f"store={done.store}"]) == 0
    assert (done.store / "best.yaml").exists()
    capsys.readouterr()
    with contextlib.suppress(SystemExit):
        status = main(["train", "--config-dir", str(done.store), "--config-name", "best", "--cfg"])
        assert status == 0, capsys.readouterr().err
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["optimizer"]["lr"] == compose(done.best.overrides).cfg.optimizer.lr
    again = compose(best_file.read(done.store / "best.yaml"))
    assert config_sha256(again) == done.best.tags["config_sha256"]


def test_best_of_a_run_is_that_run(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    other = next(record for record in done.records if record.run_id != done.best.run_id)
    assert main(["best", f"store={done.store}", "--run", other.run_id, "--long"]) == 0
    assert typed(capsys.readouterr().out) == [f"store={done.store}", *other.overrides]


@pytest.mark.parametrize("verb", ["best", "reproduce", "report", "sample"])
def test_a_run_that_is_not_there_is_refused(verb: str, done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, f"store={done.store}", "--run", "abc"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "RUN=abc" in err and "make searches" in err


def test_reproduce_gives_the_same_bits(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", f"store={done.store}"]) == 0
    out = capsys.readouterr().out
    assert "bit for bit" in out and repr(done.best.value) in out
    tracker = Tracker(None, "denoise-search", done.store)
    again = tracker.find(reproduces=done.best.run_id)
    assert again and again[0].data.metrics["val/loss"] == done.best.value
    assert len(tracker.records(done.parent)) == 4, "it is no trial of the search"


def test_reproduce_a_pruned_trial_up_to_where_it_was_stopped(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path_factory.mktemp("pruned") / "runs"
    assert main(["search", f"store={store}", *TINY, "search.n_trials=6"]) == 0
    tracker = Tracker(None, "denoise-search", store)
    records = tracker.records(tracker.searches()[0].info.run_id)
    pruned = next(record for record in records if record.outcome == "pruned")
    capsys.readouterr()
    assert main(["reproduce", f"store={store}", "--run", pruned.run_id]) == 0
    out = capsys.readouterr().out
    assert "bit for bit" in out and repr(pruned.value) in out


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    store = tmp_path_factory.mktemp("trained") / "runs"
    assert main(["train", f"store={store}", *TINY]) == 0
    tracker = Tracker(None, "denoise-search", store)
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    return store, run.info.run_id


@pytest.fixture
def trained(training: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    """A store with one training in it, and its run: a copy, which may be spoilt."""
    return Path(shutil.copytree(training[0], tmp_path / "runs")), training[1]


def tamper(store: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    with sqlite3.connect(store / "mlflow.db") as base:
        for statement, values in statements:
            assert base.execute(statement, values).rowcount > 0, statement
    base.close()


def test_reproduce_sees_another_value(trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, run = trained
    change = "UPDATE {} SET value = value + 1e-15 WHERE key = 'val/loss' AND run_uuid = ?"
    tamper(store, (change.format("metrics"), (run,)), (change.format("latest_metrics"), (run,)))
    assert main(["reproduce", f"store={store}", "--run", run]) == 1
    captured = capsys.readouterr()
    assert "differs" in captured.out and "differs on the same machine" in captured.err


def test_reproduce_sees_other_weights(trained: tuple[Path, str]) -> None:
    store, run = trained
    tamper(store, ("UPDATE tags SET value = ? WHERE key = 'weights_sha256' AND run_uuid = ?", ("0" * 64, run)))
    assert main(["reproduce", f"store={store}", "--run", run]) == 1


def test_reproduce_forgives_another_machine(trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, run = trained
    change = "UPDATE tags SET value = ? WHERE key = ? AND run_uuid = ?"
    machine = json.dumps({"processor": "another one", "threads": "64"})
    tamper(store, (change, (machine, "machine", run)), (change, ("0" * 64, "weights_sha256", run)))
    assert main(["reproduce", f"store={store}", "--run", run]) == 0
    assert "another one" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    "override",
    [
        "activation._target_=builtins.open",
        "+activation._target_=os.system",
        "activation={_target_:os.system}",
        "allow=[os.]",
        "hydra.searchpath=[file:///tmp]",
        "model.width=abc",
        "nonsense",
    ],
)
def test_reproduce_takes_no_code_from_a_record(
    override: str, trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, run = trained
    overrides = json.dumps([*TINY, override])
    tamper(store, ("UPDATE tags SET value = ? WHERE key = 'overrides' AND run_uuid = ?", (overrides, run)))
    assert main(["reproduce", f"store={store}", "--run", run]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and override.split("=")[0].lstrip("+") in err


@pytest.mark.parametrize("verb", ["best", "sample"])
def test_no_verb_takes_code_from_a_record(
    verb: str, trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, run = trained
    overrides = json.dumps([*TINY, "activation._target_=torch.hub.load"])
    tamper(store, ("UPDATE tags SET value = ? WHERE key = 'overrides' AND run_uuid = ?", (overrides, run)))
    assert main([verb, f"store={store}", "--run", run]) == 2
    assert "_target_" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"a": 1}', "null"])
def test_a_record_that_is_garbage_is_refused(
    text: str, trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, run = trained
    tamper(store, ("UPDATE tags SET value = ? WHERE key = 'overrides' AND run_uuid = ?", (text, run)))
    assert main(["reproduce", f"store={store}", "--run", run]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and run in err


def test_a_run_that_failed_has_nothing_to_compare_with(
    trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, run = trained
    tamper(store, ("UPDATE tags SET value = 'failed' WHERE key = 'outcome' AND run_uuid = ?", (run,)))
    assert main(["reproduce", f"store={store}", "--run", run]) == 2
    assert "failed" in capsys.readouterr().err


def test_report_shows_the_leaderboard_again(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"store={done.store}"]) == 0
    out = capsys.readouterr().out
    assert ANSI not in out
    assert f"{done.best.value:.4f}" in out and f"Best: trial {done.best.number}" in out
    page = done.store / "report.html"
    assert out.endswith(f"the whole report as a page: {page}\n")
    content = page.read_text()
    assert f"Best: trial {done.best.number}" in content and content.count("data:image/png;base64,") >= 1
    assert "make search ARGS=" in content and f"store={done.store}" in content
    page.unlink()
    assert main(["report", f"store={done.store}", "--run", done.parent]) == 0
    assert capsys.readouterr().out == out and page.read_text() == content
    (written,) = (done.store / "artifacts" / done.parent).rglob("report.html")
    assert f"Best: trial {done.best.number}" in written.read_text(), "it is an artifact of the search's run too"


def test_sample_draws_a_picture(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", f"store={done.store}"]) == 0
    (path,) = done.store.glob(f"samples-{done.best.run_id[:8]}*.png")
    assert path.read_bytes().startswith(PNG)
    assert str(path) in capsys.readouterr().out.replace("\n", "")
    first = path.read_bytes()
    assert main(["sample", f"store={done.store}", "seed=1"]) == 0
    assert path.read_bytes() != first, "another seed draws other pictures"
    assert main(["sample", f"store={done.store}", "solver.steps=0"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "solver.steps=0" in err


def test_sample_without_weights_says_what_to_do(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    other = next(record for record in done.records if record.run_id != done.best.run_id and record.number)
    assert main(["sample", f"store={done.store}", "--run", other.run_id]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and other.run_id in err


@pytest.mark.parametrize("how", ["gone", "flip", "cut", "another's"])
def test_weights_that_are_gone_or_others_are_not_drawn_from_and_are_put_back_by_reproduce(
    how: str, trained: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, run = trained
    path = store / "artifacts" / run / "artifacts" / "weights" / "weights.safetensors"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    other = save({name: tensor + 1 for name, tensor in load_file(path).items()})
    path.write_bytes({"flip": bytes(flipped), "cut": whole[:-9], "another's": other}.get(how, b""))
    if how == "gone":
        path.unlink()
    assert main(["sample", f"store={store}", "--run", run]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and err.startswith(f"RUN={run}: ") and not list(store.glob("samples-*"))
    assert main(["reproduce", *printed(err)["reproduce"]]) == 0
    assert "Reproduced, bit for bit. The run has its weights again." in capsys.readouterr().out
    assert load_file(path).keys() == load(whole).keys()
    assert main(["sample", f"store={store}", "--run", run]) == 0


def descendants(pid: int) -> list[int]:
    """The processes that a process has begun, and theirs."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ui_answers_at_the_printed_address_and_ends_quietly(done: Done, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "search", "ui", f"store={done.store}", f"port={port}"]
    output = tmp_path / "output"
    with output.open("w") as stream:
        process = subprocess.Popen(command, env=environment(), stdout=stream, stderr=stream, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: address in output.read_text() and answers(address), lambda: process.poll() is None, output)
        served = descendants(process.pid)
        assert served
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        *places, last = output.read_text().splitlines()
        assert len(places) == 3 and all(address in place for place in places), "no traceback"
        assert "Ctrl-C" in last
        until(lambda: all(map(gone, served)))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    finally:
        for pid in (process.pid, *descendants(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def test_a_server_that_ends_says_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = tmp_path / "python"
    fails.write_text("#!/bin/sh\necho Traceback >&2\necho 'ValueError: no such database'\nexit 3\n")
    fails.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fails))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert mlflow_server.serve("nonsense://x", tmp_path, free_port()) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: no such database" in line and str(tmp_path / "mlflow-server.log") in line
    assert (tmp_path / "mlflow-server.log").read_text().startswith("Traceback")


def test_a_search_that_is_interrupted_shows_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick.free(monkeypatch)
    begun: list[int] = []

    def interrupted(*args: Any) -> Any:
        begun.append(1)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return quick.formula(*args)

    monkeypatch.setattr(train, "fit", interrupted)
    few = [*quick.SMALL, *quick.NUMBERS, "search.n_trials=5", "search.workers=1", "pruner=none"]
    assert main(["search", f"store={tmp_path / 'runs'}", *few]) == 130
    captured = capsys.readouterr()
    tail = captured.out[captured.out.index("rank") :]
    tracker = Tracker(None, "denoise-search", tmp_path / "runs")
    records = [one for one in tracker.records(tracker.searches()[0].info.run_id) if one.outcome == "complete"]
    assert len(records) == 2 and all(f"{one.value:.4f}" in tail for one in records)
    assert "stopped with 2 of 5 trials over" in tail and "Best: trial" in tail
    assert len(captured.err.splitlines()) == 1 and "the same command resumes it" in captured.err


def test_ui_names_a_tracking_server_elsewhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["ui", f"store={tmp_path / 'runs'}", "tracking.uri=http://127.0.0.1:5001"]) == 0
    assert "http://127.0.0.1:5001/#/experiments?workflowType=machine_learning" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("verb", "key"), [("train", "optimizer"), ("search", "search")])
def test_cfg_prints_the_config_and_does_nothing(
    verb: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(SystemExit):
        assert main([verb, "--cfg", "optimizer.lr=0.01"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["optimizer"]["lr"] == 0.01 and key in printed
    assert list(tmp_path.iterdir()) == []


def test_catalog_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    table = ROOT / "docs" / "kinds" / "README.md"
    before = table.read_bytes()
    assert main(["catalog", "--check"]) == 0, "docs/kinds is not fresh: make catalog"
    capsys.readouterr()
    assert main(["catalog"]) == 0
    out = capsys.readouterr().out
    assert table.read_bytes() == before
    for kind in catalog.KINDS:
        assert kind in out and all(option in out for option in catalog.options(kind))
    assert "1 / sqrt(E[f(z)^2])" in out, "a formula is no markup"


def test_output_that_nobody_reads_to_the_end_is_no_error(done: Done) -> None:
    """make report | head -1"""
    python, root = shlex.quote(sys.executable), shlex.quote(str(done.store))
    line = f"set -o pipefail; {python} -m search report store={root} | head -1"
    finished = subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert "Traceback" not in finished.stderr and finished.returncode == 0, finished.stderr

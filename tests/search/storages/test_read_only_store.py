"""A store that cannot be written is read; a verb that writes is refused in one line."""

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from denoise.errors import UserError
from search.__main__ import main
from search.tracking import read_only
from search.tracking.tracker import open_tracker
from tests import quick, tiny
from tests.search.cli.test_verbs import typed
from tests.search.storages.test_moved_stores import content
from tests.search.storages.test_odd_stores import EXPERIMENT

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
SMALL = [*tiny.TINY, "data.batch_size=8", "trainer.max_steps=2", "trainer.val_every=2"]
SEARCHED = [*quick.SMALL, *quick.CHOICES, "search.n_trials=2"]


def mounted(source: Path, at: Path) -> bool:
    """Mount a folder so that it can only be read; False where this process may not."""
    at.mkdir()
    bound = subprocess.run(["mount", "--bind", str(source), str(at)], capture_output=True)
    if bound.returncode:
        return False
    return subprocess.run(["mount", "-o", "remount,ro,bind", str(at)], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A search and a training in one store, and the training's run; the log of a killed process is still there."""
    store = tmp_path_factory.mktemp("written") / "a store?"
    assert main(["train", f"store={store}", *SMALL]) == 0
    (run,) = (tracker := open_tracker(None, EXPERIMENT, store)).client.search_runs([tracker.experiment_id])
    with pytest.MonkeyPatch.context() as patch:
        quick.run(store, [*quick.CHOICES, "search.n_trials=2"], patch)
    return store, run.info.run_id


@pytest.fixture(params=["mount", "mode"])
def locked(
    request: pytest.FixtureRequest, written: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, str]]:
    """The store, read-only: mounted so, or with modes that this process, where it is root, is made to keep."""
    source, run = tmp_path / "source", written[1]
    shutil.copytree(written[0], source)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if request.param == "mount":
        at = tmp_path / "mounted"
        if not mounted(source, at):
            pytest.skip("this process may not mount")
        try:
            yield at, run
        finally:
            subprocess.run(["umount", "--lazy", str(at)], check=True)  # a connection may be open still
        return
    for path in [source, *source.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    if os.geteuid() == 0:
        as_anyone(source, monkeypatch)
    yield source, run
    for path in [source, *source.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def as_anyone(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the modes of a store count for root too, at the functions that ask and write."""
    write, access = Path.write_bytes, os.access

    def refused(self: Path, content: bytes) -> int:
        if self.is_relative_to(store):
            raise PermissionError(errno.EACCES, "Permission denied")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", refused)
    monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(store) and access(path, mode))


def test_the_verbs_that_read_do(
    locked: tuple[Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = locked
    before = content(store)
    for verb in ("report", "best"):
        assert main([verb, f"store={store}"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "rank" in out and "make train ARGS=" in out
    assert f"store={store}: cannot be written (" in out and out.rstrip().endswith(": best.yaml is not written")
    assert main(["sample", f"store={store}", "--run", run]) == 0
    assert sorted(os.listdir()) == ["report.html", f"samples-{run[:8]}.png"], "in the current folder"
    assert main(["reproduce", f"store={store}", "--run", run]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Reproduced, bit for bit." in out and "this training is not recorded" in out
    assert content(store) == before and set(os.listdir()) == {"report.html", f"samples-{run[:8]}.png"}


def test_the_command_of_best_trains_elsewhere(locked: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    store, _ = locked
    assert main(["best", f"store={store}"]) == 0
    overrides = typed(capsys.readouterr().out)
    assert "store=FOLDER" in overrides
    assert main(["train", *overrides, *SMALL]) == 0
    assert os.listdir() == ["FOLDER"]


@pytest.mark.parametrize("verb", ["search", "train", "ui"])
def test_a_verb_that_writes_is_refused(
    verb: str, locked: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = locked
    quick.free(monkeypatch)
    monkeypatch.setattr("search.workers.pool.WorkerPool.resize", lambda *args: None)
    before = content(store)
    assert main([verb, f"store={store}", *(SEARCHED if verb == "search" else SMALL)]) == 2
    err = capsys.readouterr().err.splitlines()
    (line,) = [text for text in err if text]
    assert line.startswith(f"store={store}: cannot be written (") and line.endswith("with store=FOLDER")
    assert content(store) == before


@pytest.fixture
def full(written: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The store on a disk without a byte left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this process may not mount")
    monkeypatch.chdir(tmp_path)
    try:
        store = Path(shutil.copytree(written[0], disk / "store"))
        with contextlib.suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
            while rest.write(bytes(4096)):
                pass
        yield store
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_store_on_a_full_disk_is_read(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(full)
    for verb in ("report", "best"):
        assert main([verb, f"store={full}"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "rank" in out and f"store={full}: cannot be written (No space left on device): best.yaml" in out
    assert main(["train", f"store={full}", *SMALL]) == 2
    why = f"store={full}: cannot be written (No space left on device)"
    assert capsys.readouterr().err == f"{why}; give another folder with store=FOLDER\n"
    assert content(full) == before


@pytest.mark.parametrize("room", [True, False])
def test_a_file_that_finds_no_room_is_put_into_the_current_folder(
    room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, here = tmp_path / "store", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert read_only.put(store, "a.png", b"before") == store / "a.png"
    write = Path.write_bytes

    def no_room(self: Path, content: bytes) -> int:
        if "a.png" in self.name and not (room and self.absolute().parent == here):
            write(self, content[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", no_room)
    if room:
        assert read_only.put(store, "a.png", b"after") == Path("a.png") and Path("a.png").read_bytes() == b"after"
    else:
        with pytest.raises(
            UserError, match=r"^store=.*/store: cannot be written .*; a.png cannot be written here eith"
        ):
            read_only.put(store, "a.png", b"after")
    assert (store / "a.png").read_bytes() == b"before" and os.listdir(store) == ["a.png"]
    assert os.listdir(here) == (["a.png"] if room else [])


@pytest.mark.parametrize("what", ["mlflow.db", "optuna.db"])
@pytest.mark.parametrize("locked", [False, True])
def test_a_database_that_is_none_is_said_of_the_store(
    what: str, locked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / what).write_bytes(b"no database" * 999)
    if locked:
        as_anyone(store, monkeypatch)
    quick.free(monkeypatch)
    monkeypatch.setattr("search.workers.pool.WorkerPool.resize", lambda *args: None)
    typed = ["best"] if what == "mlflow.db" else ["search", *SEARCHED]
    assert main([*typed, f"store={store}"]) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text]
    assert line.startswith(f"store={store}: ") and "store=FOLDER" in line and "tracking.uri" not in line
    assert "search.storage" not in line and (locked or f"its {what} cannot be used" in line)


def test_what_a_killed_process_left_in_the_log_is_seen(tmp_path: Path) -> None:
    store, then = tmp_path / "store", tmp_path / "then"
    tracker = open_tracker(None, EXPERIMENT, store)
    with sqlite3.connect(store / "mlflow.db") as open_elsewhere:  # so that the log is not put into the database
        open_elsewhere.execute("SELECT 1 FROM runs").fetchall()
        run = tracker.start("a", {"role": "search"}, {})
        shutil.copytree(store, then)
    assert (then / "mlflow.db-wal").stat().st_size
    seen = read_only.opened(EXPERIMENT, then)
    assert [found.info.run_id for found in seen.searches()] == [run.run_id]
    assert seen.place == str(then / "mlflow.db")

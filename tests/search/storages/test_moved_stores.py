"""A store that was moved or copied: all of it is found where it is now, and nothing is written where it was."""

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from search.__main__ import main
from search.tracking import artifacts
from search.tracking.artifacts import Files
from search.tracking.tracker import Run, Tracker, open_tracker
from tests import quick, tiny
from tests.search.storages.test_odd_stores import EXPERIMENT, NAMES

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
ODD = "é %20?#'=&+(x){y}\\;"
SMALL = [*tiny.TINY, "data.batch_size=8", "trainer.max_steps=2", "trainer.val_every=2"]
MODEL = "denoise"
PLACES = {"rename": shutil.move, "copy": shutil.copytree}
written: list[str] | None = None  # while it is a list: the files and folders that this process makes or changes


def seen(event: str, arguments: tuple[Any, ...]) -> None:
    if written is None:
        return
    paths: tuple[Any, ...] = ()
    if event == "open" and isinstance(arguments[0], str | bytes):
        paths = arguments[:1] if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else ()
    elif event in ("os.rename", "os.link", "os.symlink"):
        paths = arguments[:2]
    elif event in ("sqlite3.connect", "os.mkdir") and not os.path.isdir(arguments[0]):
        paths = arguments[:1]
    written.extend(path for path in map(os.fsdecode, paths) if not path.endswith("?mode=ro"))


@contextmanager
def watched() -> Iterator[list[str]]:
    """Within, what is written; an audit hook stays for good, so there is one."""
    global written
    if seen not in hooks:
        sys.addaudithook(seen)
        hooks.append(seen)
    written = []
    try:
        yield written
    finally:
        written = None


hooks: list[Any] = []


def register(tracker: Tracker, run_id: str) -> None:
    """Make a run's weights the champion of a model."""
    tracker.client.create_registered_model(MODEL)
    source = f"{tracker.client.get_run(run_id).info.artifact_uri}/weights"
    version = tracker.client.create_model_version(MODEL, source=source, run_id=run_id).version
    tracker.client.set_registered_model_alias(MODEL, "champion", version)


def outside(paths: list[str], store: Path) -> list[str]:
    """Those that lie neither in the store nor where any program may write."""
    caches = [os.environ.get("XDG_CACHE_HOME"), os.environ.get("MPLCONFIGDIR"), os.path.expanduser("~/.cache")]
    allowed = (str(store), tempfile.gettempdir() + "/tmp", "/dev/", "/proc/", *filter(None, caches))
    found = [os.path.abspath(path) for path in paths if ":memory:" not in path and "__pycache__" not in path]
    # pytest's own folders lie in the temporary one: a store beside this one is not allowed
    return [p for p in found if not p.startswith(allowed) or (str(store.parent) in p and not p.startswith(str(store)))]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cells(store: Path, text: str) -> list[str]:
    """Where in the databases of a store a text stands, as it is and as an address has it."""
    found = []
    for name in ("mlflow.db", "optuna.db"):
        if not (store / name).exists():
            continue
        with sqlite3.connect(store / name) as opened:
            for (table,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in opened.execute(f"SELECT * FROM {table}"):
                    found += [f"{name} {table}: {cell}" for cell in row if text in str(cell)]
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store of an odd name with one training in it."""
    store = tmp_path_factory.mktemp("before") / ODD
    assert main(["train", f"store={store}", *SMALL]) == 0
    (run,) = (tracker := open_tracker(None, EXPERIMENT, store)).client.search_runs([tracker.experiment_id])
    register(tracker, run.info.run_id)
    return store, run.info.run_id


@pytest.mark.parametrize("how", PLACES)
def test_a_training_is_read_done_again_and_trained_beside_where_its_store_is_now(
    how: str, trained: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, run = trained
    store, before = tmp_path / "now" / ODD[::-1], tmp_path / "then" / ODD
    shutil.copytree(origin, before)  # an old address already, for either
    PLACES[how](before, store)
    left = content(before) if before.exists() else None
    with watched() as paths:
        for verb in ("best", "sample", "reproduce"):
            assert main([verb, f"store={store}", "--run", run]) == 0, capsys.readouterr().err
        assert main(["train", f"store={store}", *SMALL, "initializer=pretrained", f"initializer.run={run}"]) == 0
    assert outside(paths, store) == []
    assert (content(before) if before.exists() else None) == left
    said = capsys.readouterr().out
    assert str(origin) not in said and str(before) not in said
    tracker = open_tracker(None, EXPERIMENT, store)
    assert cells(store, str(origin.parent)) == []
    assert Path(tracker.client.download_artifacts(run, "config.yaml")).exists(), "as MLflow's pages find it"
    assert tracker.client.get_model_version_by_alias(MODEL, "champion").source.startswith(store.resolve().as_uri())


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A search of two trials, and where it was."""
    store = tmp_path_factory.mktemp("then") / "a?b=c {x}%20"
    with pytest.MonkeyPatch.context() as patch:
        found, _ = quick.run(store, [*quick.CHOICES, "search.n_trials=2"], patch)
    return store, found


@pytest.mark.parametrize("how", PLACES)
def test_a_search_resumes_where_its_store_is_now(
    how: str, searched: tuple[Path, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, first = searched
    before, now = tmp_path / "then", tmp_path / "now"
    shutil.copytree(origin, before)
    PLACES[how](before, now)
    left = content(before) if before.exists() else None
    with watched() as paths:
        assert main(["report", f"store={now}"]) == 0
        second, _ = quick.run(now, [*quick.CHOICES, "search.n_trials=3"], monkeypatch)
        assert main(["best", f"store={now}"]) == 0
    assert second[:2] == first and len(second) == 3
    assert outside(paths, now) == []
    assert (content(before) if before.exists() else None) == left
    assert cells(now, str(origin)) == [] and cells(now, origin.as_uri()) == []


@pytest.mark.parametrize("name", NAMES)
def test_addresses_follow_a_store_of_any_name(name: str, tmp_path: Path) -> None:
    then, now = tmp_path / "then" / name, tmp_path / "now" / name[::-1]
    run = open_tracker(None, EXPERIMENT, then).start("a", {"role": "trial"}, {})
    run.artifacts({"a.txt": b"1"}, "folder")
    register(run.tracker, run.run_id)
    now.parent.mkdir()
    then.rename(now)
    tracker = open_tracker(None, EXPERIMENT, now)
    assert Path(tracker.client.download_artifacts(run.run_id, "folder/a.txt")).read_bytes() == b"1"
    assert cells(now, str(then)) == [] and cells(now, then.as_uri()) == []
    assert tracker.start("b", {"role": "trial"}, {}).run_id and not then.exists()


def test_no_database_chooses_where_files_are_written(tmp_path: Path) -> None:
    store, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    open_tracker(None, EXPERIMENT, store)
    with sqlite3.connect(store / "mlflow.db") as opened:
        opened.execute("UPDATE experiments SET artifact_location = ?", (elsewhere.as_uri(),))
    tracker = open_tracker(None, EXPERIMENT, store)
    run = tracker.start("a", {"role": "trial"}, {})
    with sqlite3.connect(store / "mlflow.db") as opened:  # and once it is open
        opened.execute("UPDATE experiments SET artifact_location = ?", (elsewhere.as_uri(),))
        opened.execute("UPDATE runs SET artifact_uri = ?", (elsewhere.as_uri(),))
    run.artifacts({"a": b"1"}, "folder")
    assert not elsewhere.exists() and tracker.artifact(run.run_id, "folder/a", tmp_path).read_bytes() == b"1"
    assert tracker.has(run.run_id, "folder") and not tracker.has(run.run_id, "weights")


@pytest.mark.parametrize("run_id", ["..", "../../x", "/etc", "a/b", "", "A" * 32])
def test_what_is_no_id_of_a_run_names_no_folder(run_id: str, tmp_path: Path) -> None:
    files = Files(tmp_path, "1")
    assert files.find(run_id, "passwd") is None
    with pytest.raises(ValueError):
        files.write(run_id, {"a": b""})


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, run_id = Files(tmp_path, "1"), "a" * 32
    files.write(run_id, {"a": b"before"})

    def killed(self: Path, target: Path) -> None:
        raise quick.Killed

    with monkeypatch.context() as patch, pytest.raises(quick.Killed):
        patch.setattr(Path, "replace", killed)
        files.write(run_id, {"a": b"after"})
    found = files.find(run_id, "a")
    assert found is not None and found.read_bytes() == b"before"
    assert os.listdir(files.folder(run_id)) == ["a"]


def test_an_experiment_made_in_mlflows_pages_keeps_its_folder(tmp_path: Path) -> None:
    then, now = tmp_path / "then", tmp_path / "now"
    tracker = open_tracker(None, EXPERIMENT, then)
    number = tracker.client.create_experiment("mine", artifact_location=f"{(then / 'artifacts').as_uri()}/2")
    assert number == "2"
    run_id = tracker.client.create_run(number).info.run_id
    tracker.client.log_text(run_id, "hello", "a.txt")
    foreign = tracker.client.create_experiment("far", artifact_location="s3://bucket/artifacts-of-mine")
    tracker.client.create_run(foreign)
    then.rename(now)
    tracker = open_tracker(None, "mine", now)
    assert tracker.artifact(run_id, "a.txt", tmp_path).read_text() == "hello"
    Run(tracker, run_id).artifacts({"b.txt": b"too"})
    assert {item.path for item in tracker.client.list_artifacts(run_id)} == {"a.txt", "b.txt"}
    assert cells(now, str(then)) == []
    assert len(cells(now, "s3://bucket")) == 2


def test_the_addresses_follow_all_or_none_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    then, now = tmp_path / "then", tmp_path / "now"
    run = open_tracker(None, EXPERIMENT, then).start("a", {"role": "trial"}, {})
    register(run.tracker, run.run_id)
    then.rename(now)
    before, replace, calls = cells(now, then.as_uri()), artifacts._replace, []

    def killed(opened: Any, table: str, *more: str) -> None:
        calls.append(table)
        if table == "model_versions":
            raise quick.Killed
        replace(opened, table, *more)

    with monkeypatch.context() as patch, pytest.raises(quick.Killed):
        patch.setattr(artifacts, "_replace", killed)
        open_tracker(None, EXPERIMENT, now)
    assert calls[0] == "runs" and cells(now, then.as_uri()) == before
    open_tracker(None, EXPERIMENT, now)
    assert cells(now, then.as_uri()) == []
    with sqlite3.connect(now / "mlflow.db") as opened:
        version = opened.execute("PRAGMA data_version").fetchone()
        open_tracker(None, EXPERIMENT, now)
        assert opened.execute("PRAGMA data_version").fetchone() == version, "one that is right is only read"

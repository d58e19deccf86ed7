"""MLflow's tables, copied: the same as MLflow makes, and never half there."""

import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from denoise.config.compose import compose
from denoise.errors import Refusal
from search.tracking import tables
from search.tracking.tracker import Tracker, open_tracker
from tests import quick

pytestmark = pytest.mark.filterwarnings("ignore")
EXPERIMENT = compose().cfg.tracking.experiment


def content(database: Path) -> list[tuple[str, list[str]]]:
    """What a database is made of, and the version that MLflow notes in it; MLflow's constraints come in any order."""
    with sqlite3.connect(database) as opened:
        made = opened.execute("SELECT name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        version = opened.execute("SELECT 'version', version_num FROM alembic_version").fetchall()
    return [(name, sorted(re.findall(r"\w+", text or ""))) for name, text in made + version]


def test_a_new_store_has_what_mlflow_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied, own = tmp_path / "copied", tmp_path / "own"
    assert tables.template().exists()
    with monkeypatch.context() as patch:  # copied, not made
        patch.setattr("mlflow.store.db.utils._initialize_tables", lambda engine: pytest.fail("made anew"))
        open_tracker(None, EXPERIMENT, copied)
    own.mkdir()
    tracker = Tracker(f"sqlite:///{own / 'mlflow.db'}", EXPERIMENT, own)
    assert content(copied / "mlflow.db") == content(own / "mlflow.db")
    assert [each.name for each in tracker.client.search_experiments()] == [
        each.name for each in open_tracker(None, EXPERIMENT, copied).client.search_experiments()
    ]


def test_without_a_template_mlflow_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "template", lambda: tmp_path / "nowhere.db")
    open_tracker(None, EXPERIMENT, tmp_path / "store")
    assert content(tmp_path / "store" / "mlflow.db")
    assert not list((tmp_path / "store").glob("*.part"))


@pytest.mark.parametrize("left", ["mlflow.db-wal", "mlflow.db-journal"])
def test_beside_what_another_database_left_nothing_is_laid(left: str, tmp_path: Path) -> None:
    (tmp_path / left).write_bytes(b"")
    with tables.opening(f"sqlite:///{tmp_path / 'mlflow.db'}"):
        assert not (tmp_path / "mlflow.db").exists()


def test_a_name_with_options_is_no_file_to_lay(tmp_path: Path) -> None:
    with tables.opening(f"sqlite:///{tmp_path / 'mlflow.db'}?timeout=60"):
        assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_a_store_that_is_there_is_not_touched(tmp_path: Path) -> None:
    run = open_tracker(None, EXPERIMENT, tmp_path).start("a run", {"role": "trial"}, {})
    assert open_tracker(None, EXPERIMENT, tmp_path).find(role="trial")[0].info.run_id == run.run_id


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:1000])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(Refusal, match=r"mlflow\.db cannot be made \(No space left"):
        patch.setattr(shutil, "copyfile", full)
        open_tracker(None, EXPERIMENT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    open_tracker(None, EXPERIMENT, tmp_path)
    assert content(tmp_path / "mlflow.db")


HALF = {  # what a kill leaves while MLflow makes its tables, and a full disk
    "nothing": [],
    "a table": ["CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY)"],
    "no version": ["DROP TABLE alembic_version"],
    "a version that is not noted": ["DELETE FROM alembic_version"],
    "an old version": ["DROP TABLE spans", "UPDATE alembic_version SET version_num = '451aebb31d03'"],
    "a table under way": ["DROP TABLE jobs", "CREATE TABLE _alembic_tmp_runs (i INTEGER)"],
}


@pytest.mark.parametrize("what", HALF)
def test_half_made_tables_that_hold_nothing_are_made_anew(what: str, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    if what not in ("nothing", "a table"):
        shutil.copyfile(tables.template(), database)
    opened = sqlite3.connect(database)  # a process that was killed has closed nothing: its log is there
    opened.execute("PRAGMA journal_mode=WAL")
    for statement in HALF[what]:
        opened.execute(statement)
    opened.commit()
    left = {path: path.read_bytes() for path in tmp_path.glob("mlflow.db*")}
    opened.close()
    for path, content_then in left.items():
        path.write_bytes(content_then)
    if what == "nothing":
        database.write_bytes(b"")
    run = open_tracker(None, EXPERIMENT, tmp_path).start("a", {"role": "trial"}, {})
    assert open_tracker(None, EXPERIMENT, tmp_path).find(role="trial")[0].info.run_id == run.run_id
    assert {name for name, _ in content(database)} >= {name for name, _ in content(tables.template())}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO experiments (experiment_id, name) VALUES (7, 'mine')",
        "INSERT INTO registered_models (name) VALUES ('mine')",
        "CREATE TABLE of_another_program (i INTEGER)",
    ],
)
def test_a_database_that_holds_something_stays_as_it_is(statement: str, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    shutil.copyfile(tables.template(), database)
    with sqlite3.connect(database) as opened:
        opened.execute(statement)
        opened.execute("DELETE FROM alembic_version")
        opened.execute("DROP TABLE jobs")
    before = database.read_bytes()
    with tables.opening(f"sqlite:///{database}"):
        assert database.read_bytes() == before
    database.write_bytes(b"no database at all" * 100)
    with tables.opening(f"sqlite:///{database}"):
        assert database.read_bytes() == b"no database at all" * 100


@pytest.mark.faults
@pytest.mark.parametrize("laid", [True, False])
def test_a_kill_while_the_tables_are_made_leaves_none(
    laid: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hard links, as on exFAT, and with or without what the install has made ahead."""
    store = tmp_path / "store"
    store.mkdir()

    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    def killed(*args: object) -> None:
        raise quick.Killed

    monkeypatch.setattr(tables.os, "link", no_links)
    with monkeypatch.context() as patch, pytest.raises(quick.Killed):
        if laid:
            patch.setattr(shutil, "copyfile", killed)
        else:
            patch.setattr(tables, "template", lambda: tmp_path / "nowhere.db")
            patch.setattr("mlflow.store.db.utils._upgrade_db", killed)
        open_tracker(None, EXPERIMENT, store)
    assert not (store / "mlflow.db").exists()
    open_tracker(None, EXPERIMENT, store)
    assert sorted(path.name for path in store.iterdir() if not path.name.startswith("mlflow.db")) == ["locks"]

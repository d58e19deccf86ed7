"""MLflow's tables, copied: the same as MLflow makes, and never half there."""

import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from denoise.config import compose
from search import tables
from search.tracking import Tracker, open_tracker

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

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with tables.opening(f"sqlite:///{tmp_path / 'mlflow.db'}"):
            assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    open_tracker(None, EXPERIMENT, tmp_path)
    assert content(tmp_path / "mlflow.db")

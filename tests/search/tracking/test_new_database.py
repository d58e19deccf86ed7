"""A new store's MLflow database: what MLflow makes, whole or not there."""

import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from denoise.config.compose import compose
from denoise.errors import UserError
from search.tracking import new_database
from search.tracking.new_database import make  # as it is before the tests' own stands in for it
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
    monkeypatch.setattr(new_database, "make", make)
    moved, own = tmp_path / "moved", tmp_path / "own"
    run = open_tracker(None, EXPERIMENT, moved).start("a run", {"role": "trial"}, {})
    own.mkdir()
    Tracker(f"sqlite:///{own / 'mlflow.db'}", EXPERIMENT, own)
    assert content(moved / "mlflow.db") == content(own / "mlflow.db")
    assert open_tracker(None, EXPERIMENT, moved).find(role="trial")[0].info.run_id == run.run_id
    assert not list(moved.glob(".mlflow-*"))


@pytest.mark.parametrize("left", ["mlflow.db-wal", "mlflow.db-journal"])
def test_beside_what_another_database_left_nothing_is_made(left: str, tmp_path: Path) -> None:
    (tmp_path / left).write_bytes(b"")
    with new_database.opening(f"sqlite:///{tmp_path / 'mlflow.db'}"):
        assert not (tmp_path / "mlflow.db").exists()


def test_a_name_with_options_is_no_file_to_make(tmp_path: Path) -> None:
    with new_database.opening(f"sqlite:///{tmp_path / 'mlflow.db'}?timeout=60"):
        assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    open_tracker(None, EXPERIMENT, tmp_path)
    assert content(tmp_path / "mlflow.db")


@pytest.mark.faults
@pytest.mark.parametrize("end", [quick.Killed, OSError(28, "No space left on device")])
def test_what_ends_while_the_tables_are_made_leaves_none(
    end: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*args: object, **more: object) -> None:
        raise end

    with monkeypatch.context() as patch, pytest.raises((quick.Killed, UserError)) as raised:
        patch.setattr(new_database, "make", make)
        patch.setattr(MlflowClient, "search_experiments", ends)
        open_tracker(None, EXPERIMENT, tmp_path)
    if raised.type is UserError:
        assert "mlflow.db cannot be made (No space left on device)" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    shutil.rmtree(tmp_path / "locks")
    open_tracker(None, EXPERIMENT, tmp_path)
    assert content(tmp_path / "mlflow.db")

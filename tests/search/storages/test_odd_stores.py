"""A store of any name: everything lies in it, and nothing beside it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, create_engine, make_url, text

from denoise.config.parse import BEGUN, quoted
from search.__main__ import main
from search.cli import choose_run
from search.storages import sqlite
from search.study import loop
from search.tracking.tracker import local_uri, open_tracker
from tests import quick, tiny

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
NAMES = ["100%20 é", "a?b=c", "#'a\"&;", "{x}\\"]
EXPERIMENT = "denoise-search"


def beside(home: Path) -> list[str]:
    """All files and folders below, but for those within the store."""
    (store,) = (path for path in home.iterdir() if (path / "mlflow.db").exists())
    return sorted(str(path) for path in home.rglob("*") if path != store and store not in path.parents)


@given(st.text(st.sampled_from("ab/%?#&=+@:;{}[]'\"\\ é2F"), min_size=1))
def test_an_address_names_its_file(name: str) -> None:
    path = Path("/") / name.lstrip("/") / "mlflow.db"
    url = sqlite.url(path)
    assert sqlite.file(url) == path.resolve()
    assert make_url(url).database == str(path.resolve()), "as SQLAlchemy reads it"
    assert sqlite.file(URL.create("sqlite", database=str(path)).render_as_string()) == path


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "postgresql://me@host/base", "http://host", "file:///a"]
)
def test_what_names_no_file(url: str) -> None:
    assert sqlite.file(url) is None


def test_an_address_with_options_names_its_file(tmp_path: Path) -> None:
    url = f"{sqlite.url(tmp_path / 'a.db')}?timeout=60"
    with create_engine(url).connect() as connection:
        connection.execute(text("CREATE TABLE t (i INTEGER)"))
    assert sqlite.file(url) == tmp_path / "a.db" and (tmp_path / "a.db").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_search_lies_in_its_store_whatever_that_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    quick.free(monkeypatch)
    typed = f"store={quoted(name) if name.startswith(BEGUN) else name}"
    prepared = loop.prepare([typed, *quick.SMALL, *quick.NUMBERS, "search.n_trials=1"])
    study, tracker = loop.open_stores(prepared)
    loop.run(prepared, study, tracker, quick.Silent(), 0.0)  # type: ignore[arg-type]
    assert sorted(os.listdir(here)) == [name] and not beside(here)
    assert {"mlflow.db", "optuna.db", "artifacts"} <= set(os.listdir(here / name))
    (trial,) = tracker.records(tracker.searches()[0].info.run_id)
    fetched = tracker.artifact(trial.run_id, "config.yaml", tmp_path)
    assert fetched.read_text().strip()
    assert choose_run.tracker(prepared.composed).records(tracker.searches()[0].info.run_id) == [trial]


def test_trained_and_trained_again_in_a_store_of_all_odd_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    store = f"store={here}/é %20?#'=&+(x){{y}}\\;"
    small = [*tiny.TINY, "data.batch_size=8", "trainer.max_steps=2", "trainer.val_every=2"]
    assert main(["train", store, *small]) == 0
    (run,) = (tracker := open_tracker(None, EXPERIMENT, Path(store.partition("=")[2]))).client.search_runs(
        [tracker.experiment_id]
    )
    for verb in ("reproduce", "sample", "best"):
        assert main([verb, store, "--run", run.info.run_id]) == 0, capsys.readouterr().err
    assert len(os.listdir(here)) == 1 and not beside(here)


def test_the_address_of_a_plain_store_is_the_plain_one(tmp_path: Path) -> None:
    assert local_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"

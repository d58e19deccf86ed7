"""The verbs about searches that are there: listed, named, compared, removed; on a store with two of them."""

import csv
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from search.__main__ import main
from search.cli import choose_run
from search.searches import compare, run_names
from search.tracking.tracker import Tracker
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = [*tiny.TINY, "data.batch_size=16", "trainer.max_steps=4", "trainer.val_every=2", "search.n_trials=2"]
SMALL += ["search.enqueue=[]", "search.confirm.finalists=1", "search.confirm.seeds=3", "search.confirm.test_samples=16"]
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searches") / "runs"
    assert main(["search", f"store={folder}", *SMALL, "search.name=one"]) == 0
    assert main(["search", f"store={folder}", *SMALL, "search.name=two", "optimizer.lr=0.01"]) == 0
    return folder


@pytest.fixture
def books(store: Path) -> Tracker:
    return Tracker(None, "denoise-search", store)


@pytest.fixture
def said(store: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    def typed(verb: str, *words: str, where: Path = store) -> tuple[int, str, str]:
        status = main([verb, f"store={where}", *words])
        return status, *capsys.readouterr()

    return typed


def test_searches_are_listed_with_what_each_found(said: Said, books: Tracker) -> None:
    status, out, _ = said("searches", "--json")
    rows = json.loads(out)
    assert status == 0 and [row["search"] for row in rows] == [run.info.run_name for run in books.searches()]
    for row, run in zip(rows, books.searches(), strict=True):
        values = [record.value for record in books.records(run.info.run_id) if record.outcome == "complete"]
        assert row["val/loss"] == min(value for value in values if value is not None)
        assert (row["trials"], row["of"], row["state"], row["run"]) == (2, 2, "ended", run.info.run_id)
        assert "in the mean of 3 seeds" in row["confirmed"]
    assert all(row["search"] in said("searches")[1] for row in rows)


def test_trials_as_csv_have_every_training_and_param(said: Said, books: Tracker) -> None:
    name = books.searches()[1].info.run_name
    rows = list(csv.DictReader(io.StringIO(said("trials", "--csv", "--run", name)[1])))
    runs = {run.info.run_id: run for run in books.find(**{"mlflow.parentRunId": books.searches()[1].info.run_id})}
    assert {row["run"] for row in rows} == set(runs) and [row["what"] for row in rows[:2]] == ["trial", "trial"]
    for row in rows:
        run = runs[row["run"]]
        assert {key: row[key] for key in run.data.params} == run.data.params
        assert float(row["val/loss"]) == run.data.metrics["val/loss"]
    assert sum(row["what"] == "confirm" for row in rows) == 6
    assert "and 6 trainings on fresh seeds" in said("trials", "--run", name)[1]


def test_no_number_is_null_in_json_and_nothing_in_csv() -> None:
    from search.searches.rows import text

    rows: list[dict[str, Any]] = [{"a": float("nan"), "b": 1.0}, {"a": 2.0, "c": "x, y"}]
    assert json.loads(text(rows, "json")) == [{"a": None, "b": 1.0}, {"a": 2.0, "c": "x, y"}]
    assert text(rows, "csv") == 'a,b,c\n,1.0,\n2.0,,"x, y"'


def test_a_run_is_named_in_many_ways(books: Tracker) -> None:
    latest, first = books.searches()
    trial = next(record for record in books.records(first.info.run_id) if record.number == 1)
    for text in (trial.run_id, trial.run_id[:8], f"{first.info.run_name} trial 1", "one trial  1"):
        assert choose_run.chosen(books, text).record.run_id == trial.run_id
    assert choose_run.chosen(books, "trial 0").record.number == 0
    assert choose_run.chosen(books, "baseline").overrides == choose_run.chosen(books, "two trial 0").overrides
    of_latest = choose_run.chosen(books, None).record.run_id
    for text in ("best", "two", latest.info.run_id, latest.info.run_id[:10], "two best"):
        assert choose_run.chosen(books, text).record.run_id == of_latest
    assert choose_run.chosen(books, "champion").record.run_id == _champion(books)
    for text in ("one", trial.run_id, first.info.run_id[:7]):
        assert choose_run.search_of(books, text).info.run_id == first.info.run_id


def _champion(books: Tracker) -> str:
    (model,) = books.client.search_registered_models()
    return str(books.client.get_model_version_by_alias(model.name, "champion").run_id)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("three", "no such run and no such search .*; legal: a run's id"),
        ("trial 7", "search two-.* has no such trial; legal: 0 to 1"),
        ("three trial 1", "RUN=three: no such run"),
        ("0000", "no such run"),
        ("", "no such run"),
        ("trial x", "no such run"),
    ],
)
def test_a_name_of_nothing_is_refused_in_a_line(said: Said, text: str, error: str) -> None:
    status, out, errors = said("best", "--run", text)
    assert status == 2 and not out and errors.count("\n") == 1 and re.search(error, errors)


def test_a_name_of_several_lists_them(books: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = books.searches()
    monkeypatch.setattr(books, "searches", lambda: [])
    monkeypatch.setattr(books, "begins", lambda digits: runs)
    with pytest.raises(Exception, match=rf"2 are meant by that, {runs[0].info.run_id[:8]} \(two-\w+\), .*; give one"):
        run_names.read(books, "abcd")


def test_two_searches_are_compared_on_the_seeds_of_both(said: Said, books: Tracker) -> None:
    two, one = books.searches()
    found = compare.compare(books, one, two)
    assert (
        found.found is not None and found.found.interval is not None and found.differ == {"optimizer.lr": (0.002, 0.01)}
    )
    values = []
    for side in found.sides:
        assert side.confirmed is not None and side.confirmed.best is not None
        runs = side.confirmed.best.runs
        values.append([books.record(runs[seed]).metrics["test/loss"] for seed in sorted(runs)])
    assert found.found.difference == pytest.approx(mean(values[0]) - mean(values[1]), rel=1e-12)
    low, high = found.found.interval
    assert low < found.found.difference < high
    status, out, _ = said("compare", "one", "two")
    assert status == 0 and "3 fresh seeds that both have" in " ".join(out.split()) and "0.01" in out


def test_what_is_not_the_same_question_is_not_compared(books: Tracker) -> None:
    two, one = books.searches()
    a, b = (compare._side(books, run) for run in (one, two))
    from dataclasses import replace

    assert "data are not the same" in compare._why_not((a, replace(b, data="other")), {})
    assert "other rulers (ruler.mean)" in compare._why_not((a, b), {"ruler.mean": (0, 1), "optimizer.lr": (1, 2)})
    assert f"{b.name} has no confirmation" in compare._why_not((a, replace(b, confirmed=None)), {})


def test_compare_takes_two(said: Said) -> None:
    assert said("compare", "one")[0] == 2
    assert said("compare", "one", "one")[2].endswith("is one search; give two\n")


def _contents(folder: Path) -> dict[Path, bytes]:
    """Every file's bytes; of a database its rows, since SQLite moves what was written into it when a reader leaves."""
    kept: dict[Path, bytes] = {}
    for path in folder.rglob("*"):
        if path.suffix == ".db":
            with sqlite3.connect(path) as connection:
                kept[path] = "\n".join(connection.iterdump()).encode()
        elif path.is_file() and not path.name.endswith(("-wal", "-shm")):
            kept[path] = path.read_bytes()
    return kept


def test_a_search_is_removed_whole_and_the_other_stays(store: Path, said: Said, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    before = _contents(store)
    status, out, _ = said("remove", "--run", "one", where=copy)
    name = re.findall(r"search (one-\w+): 8 trainings", out)[0]
    assert status == 0 and "Nothing is removed yet" in out and "a study" not in out
    assert len(json.loads(said("searches", "--json", where=copy)[1])) == 2
    assert said("remove", "--run", "one", "--yes", where=copy)[0] == 0
    (left,) = json.loads(said("searches", "--json", where=copy)[1])
    runs = {row["run"] for row in json.loads(said("trials", "--json", where=copy)[1])} | {left["run"]}
    assert left["search"].startswith("two") and {path.name for path in (copy / "artifacts").iterdir()} <= runs
    for table, database in (("studies", "optuna.db"), ("runs", "mlflow.db")):
        with sqlite3.connect(copy / database) as connection:
            column = "study_name" if table == "studies" else "run_uuid"
            kept = {row[0] for row in connection.execute(f"SELECT {column} FROM {table}")}
        assert kept == ({left["search"], left["search"] + "-confirm"} if table == "studies" else runs)
    assert not list((copy / "locks").glob(f"{name}*"))
    assert _contents(store) == before, "a copy is a copy"
    assert said("best", where=copy)[0] == 0


def test_remove_wants_a_name(said: Said) -> None:
    assert said("remove")[0] == 2 and "wants a search by name" in said("remove")[2]

"""What MLflow is told, in the local store and on a real server over HTTP."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
import yaml
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image
from sqlalchemy import event
from sqlalchemy.orm import Session

import denoise
from denoise.config import catalog
from denoise.config.compose import raw_compose
from denoise.data import images as data_images
from denoise.errors import UserError
from denoise.pictures.grid import grid_png
from search.__main__ import main
from search.analysis.ranking import best
from search.runtime import retry
from search.tracking.record import Record
from search.tracking.tracker import Run, Tracker, resolve_uri
from search.trial.config_hash import config_sha256
from tests import tiny
from tests.mlflow_server import serving
from tests.process import waits
from tests.quick import champion

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = [*tiny.TINY, "data.batch_size=8", "trainer.max_steps=8", "trainer.val_every=2"]
PNG = b"\x89PNG\r\n\x1a\n"
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}
# seed, trials and options with which all three outcomes come
WILD = [
    *("search.n_trials=6", "search.kinds.optimizer=[adamw,sgd]", "optimizer=sgd", "trainer.log_every=1"),
    *("optimizer.space.lr.high=1e9", "search.kinds.activation=[silu,swish]"),
]


class Books:
    """A finished search as its tracker has it."""

    def __init__(self, uri: str | None, store: Path) -> None:
        self.store = store
        self.tracker = Tracker(uri, "denoise-search", store)
        self.client: MlflowClient = self.tracker.client
        (self.parent,) = self.tracker.searches()
        self.records = sorted(self.tracker.records(self.parent.info.run_id), key=lambda record: record.number or 0)

    @property
    def best(self) -> Record:
        found = best(self.records)
        assert found is not None
        return found

    def files(self, run_id: str, into: Path) -> dict[str, bytes]:
        (into / run_id).mkdir()
        folder = Path(self.client.download_artifacts(run_id, "", str(into / run_id)))
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Books:
    store = tmp_path_factory.mktemp("tracking") / "runs"
    assert main(["search", f"store={store}", *TINY, *WILD, "search.confirm.finalists=0"]) == 0
    return Books(None, store)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, folder / "a") as address:
        yield address


@pytest.fixture(scope="module")
def remote(server: str, tmp_path_factory: pytest.TempPathFactory) -> Books:
    store = tmp_path_factory.mktemp("remote") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server)
        assert main(["search", f"store={store}", *TINY, "search.n_trials=3", "search.confirm.finalists=0"]) == 0
    assert not (store / "mlflow.db").exists() and not (store / "artifacts").exists()
    return Books(server, store)


@pytest.fixture(params=["local", "remote"])
def books(request: pytest.FixtureRequest) -> Books:
    found: Books = request.getfixturevalue(request.param)
    return found


def test_a_search_is_a_parent_run_and_each_trial_a_child_of_it(books: Books) -> None:
    assert books.parent.data.tags["role"] == "search"
    assert "mlflow.parentRunId" not in books.parent.data.tags
    runs = books.client.search_runs([books.tracker.experiment_id], max_results=1000)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == books.parent.info.run_id]
    assert len(runs) == len(children) + 1
    assert sorted(int(run.data.tags["trial"]) for run in children) == list(range(len(books.records)))


def test_every_run_is_closed_with_the_status_of_its_outcome(books: Books) -> None:
    assert books.client.get_run(books.parent.info.run_id).info.status == "FINISHED"
    for record in books.records:
        info = books.client.get_run(record.run_id).info
        assert info.status == STATUS[record.outcome] and info.end_time


def test_all_three_outcomes_were_seen(local: Books) -> None:
    assert {record.outcome for record in local.records} == {"complete", "pruned", "failed"}


def test_params_are_the_searched_values_by_config_path(books: Books) -> None:
    for record in books.records:
        params = books.client.get_run(record.run_id).data.params
        composed = raw_compose(tuple(record.overrides))
        cfg, chosen = composed.cfg, composed.choices
        for kind in catalog.KINDS:
            assert params[kind] == chosen[kind]
            for name in catalog.entry(kind, chosen[kind]).space:
                assert params[f"{kind}.{chosen[kind]}.{name}"] == str(cfg[kind][name])
        assert params["data"] == "digits" and params["model"] == "unet" and params["model.width"] == "8"
        assert params["seed"] == "0" and params["trainer.max_steps"] == "8"
        others = {key for key in params if key.count(".") == 2}
        assert all(key.split(".")[1] == chosen[key.split(".")[0]] for key in others), "an option's that was not chosen"


def test_tags_are_what_reproduces_a_trial(books: Books) -> None:
    for record in books.records:
        tags = books.client.get_run(record.run_id).data.tags
        overrides = json.loads(tags["overrides"])
        assert overrides == record.overrides
        assert tags["config_sha256"] == config_sha256(raw_compose(tuple(overrides)))
        assert len(tags["data_sha256"]) == 64 and json.loads(tags["machine"])["torch"]
        assert tags["role"] == "trial" and tags["outcome"] == record.outcome
        if record.outcome != "failed":
            assert len(tags["weights_sha256"]) == 64
        else:
            assert tags["failure_kind"] == "diverged" and tags["failure_layer"] and int(tags["step"]) >= 1


def test_metrics_are_kept_by_step(books: Books) -> None:
    record = books.records[0]
    history = books.client.get_metric_history(record.run_id, "val/loss")
    assert [metric.step for metric in history] == [2, 4, 6, 8]
    assert history[-1].value == record.value
    bands = [record.metrics[f"val/loss_band_{k}"] for k in range(4)]
    assert sum(bands) / 4 == pytest.approx(record.value)
    for name in ("train/loss", "cost/parameters", "cost/flops_per_step", "cost/peak_memory_bytes"):
        assert record.metrics[name] > 0
    assert {name for name in record.metrics if name.startswith("health/")} == {
        *("health/dead_fraction", "health/saturated_fraction", "health/gradient_range", "health/generalization_gap"),
    }


def test_a_run_has_at_most_25_metrics_and_says_in_words_what_it_is(books: Books) -> None:
    for record in books.records:
        run = books.client.get_run(record.run_id)
        assert len(run.data.metrics) <= 25
        note = run.data.tags["mlflow.note.content"]
        first, outcome, *_ = note.split("\n\n")
        assert first == (
            "The baseline's config"
            if record.number == 0
            else f"Differs from the baseline: **`{run.data.tags['differs']}`**"
        )
        assert outcome.startswith(f"{record.outcome.capitalize()} after {record.step} steps")
        assert record.value is None or record.outcome == "failed" or f"**{record.value:.6g}**" in outcome
        assert ("make reproduce" in note) == (record.outcome != "failed") and (record.failure or "") in note
        assert f"Trial {record.number} of search [" in note and books.parent.info.run_id in note


def test_a_run_says_which_data_it_saw(books: Books) -> None:
    run = books.client.get_run(books.best.run_id)
    ((dataset,), tags) = ([each.dataset for each in run.inputs.dataset_inputs], run.data.tags)
    profile = json.loads(dataset.profile)
    assert dataset.name == "digits" and tags["data_sha256"].startswith(dataset.digest) and len(dataset.digest) == 16
    assert profile["sha256"] == tags["data_sha256"] and profile["shape"] == [1, 8, 8] and profile["num_rows"] == 1797


def test_two_processes_note_one_data_set_at_once(tmp_path: Path) -> None:
    """Between another's look for the data set and its writing of it, which MLflow refuses then."""
    first, second = (Tracker(None, "denoise-search", tmp_path) for _ in range(2))
    runs = [tracker.start(f"run {i}", {}, {}) for i, tracker in enumerate((first, second))]
    noted: list[int] = []

    def in_between(session: Session, *given: Any) -> None:
        if not noted and any(type(each).__name__ == "SqlDataset" for each in session.new):
            noted.append(1)
            other = threading.Thread(target=runs[1].data, args=("digits", "digits", "a" * 64, {}))
            other.start()
            other.join()

    event.listen(Session, "before_flush", in_between)
    try:
        runs[0].data("digits", "digits", "a" * 64, {})
    finally:
        event.remove(Session, "before_flush", in_between)
    found = [first.client.get_run(run.run_id).inputs.dataset_inputs for run in runs]
    assert noted and [[each.dataset.digest for each in inputs] for inputs in found] == [["a" * 16]] * 2


def test_two_processes_make_one_experiment_at_once(tmp_path: Path) -> None:
    Tracker(None, "denoise-search", tmp_path)  # the database is there
    made: list[Tracker] = []

    def in_between(session: Session, *given: Any) -> None:
        if not made and any(type(each).__name__ == "SqlExperiment" for each in session.new):
            other = threading.Thread(target=lambda: made.append(Tracker(None, "another", tmp_path)))
            made.append(None)  # type: ignore[arg-type]
            other.start()
            other.join()

    event.listen(Session, "before_flush", in_between)
    try:
        one = Tracker(None, "another", tmp_path)
    finally:
        event.remove(Session, "before_flush", in_between)
    assert len(made) == 2 and made[1].experiment_id == one.experiment_id


def test_a_call_that_is_refused_for_another_reason_is_made_once() -> None:
    calls: list[int] = []

    def refused() -> None:
        calls.append(1)
        raise ValueError("no such run")

    with pytest.raises(ValueError, match="no such run"):
        retry.raced(refused)
    assert len(calls) == 1


def test_pictures_by_step_have_the_names_that_mlflow_gives(local: Books, tmp_path: Path) -> None:
    run = local.tracker.start("pictures", {"role": "odd"}, {})
    local.client.log_image(run.run_id, Image.new("RGB", (8, 8)), key="samples", step=8)
    theirs, tags = local.files(run.run_id, tmp_path), local.client.get_run(run.run_id).data.tags
    local.client.delete_run(run.run_id)
    ours = {name for name in local.files(local.best.run_id, tmp_path) if name.startswith("images/")}
    form = [re.sub(r"\d{13}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "N", name) for name in sorted(theirs)]
    assert form == [re.sub(r"\d{13}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "N", name) for name in sorted(ours)]
    assert local.best.tags["mlflow.loggedImages"] == tags["mlflow.loggedImages"]


def test_the_champion_draws_what_make_sample_does(
    local: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", f"store={local.store}", "seed=5"]) == 0
    (path,) = local.store.glob("samples-*.png")
    monkeypatch.chdir(local.store.parent)
    monkeypatch.setattr(data_images, "load", lambda cfg: pytest.fail("the images are not needed"))
    version = champion(local.tracker)
    for what in (local.best.run_id, f"models:/{version.name}@champion", f"models:/{version.name}/{version.version}"):
        model = denoise.load(what)
        assert not model.training and grid_png(denoise.sample(model, 4, seed=5)) == path.read_bytes()
    folder = local.store / "artifacts" / local.best.run_id / "artifacts"
    assert grid_png(denoise.sample(denoise.load(folder), 4, seed=5)) == path.read_bytes()
    drawn = mlflow.pyfunc.load_model(str(folder / "weights")).predict({"n": [1, 4], "seed": [0, 5]})
    assert grid_png(torch.from_numpy(drawn[1:])) == path.read_bytes() and drawn.shape == (5, 1, 8, 8)
    with pytest.raises(MlflowException, match='does not have the "pytorch" flavor'):
        mlflow.pytorch.load_model(str(folder / "weights"))
    for what, said in (
        (local.records[-1].run_id, "kept no weights"),
        ("f" * 32, "not found in"),
        ("models:/x@y", "not found"),
    ):
        with pytest.raises(UserError, match=said):
            denoise.load(what)
    with pytest.raises(UserError, match="no mlflow.db in .*; give store=FOLDER"):
        denoise.load("f" * 32, store=tmp_path)


@pytest.mark.parametrize("value", [1 / 3, 0.1 + 0.2, 5e-324, 2.2250738585072014e-308, 1.7e308])
def test_a_metric_comes_back_to_the_last_bit(books: Books, value: float) -> None:
    run = books.tracker.start("exact", {"role": "exact"}, {})
    run.metrics(7, {"a/b": value})
    run.end("complete")
    found = books.client.get_run(run.run_id).data.metrics["a/b"]
    books.client.delete_run(run.run_id)
    assert found.hex() == value.hex()


def test_many_metrics_params_and_a_long_param_are_all_there(books: Books) -> None:
    run = books.tracker.start("many", {"role": "many"}, {f"p{i}": i for i in range(230)} | {"long": "x" * 5000})
    for step in range(400):
        run.metrics(step, {"a": step, "b": -step, "c": 0.5, "d": 1.0, "e": 2.0})
    run.end("complete")
    data = books.client.get_run(run.run_id).data
    steps = [metric.step for metric in books.client.get_metric_history(run.run_id, "b")]
    books.client.delete_run(run.run_id)
    assert len(data.params) == 231 and len(data.params["long"]) == 5000
    assert sorted(steps) == list(range(400)) and data.metrics["a"] == 399


def test_the_component_of_a_part_is_a_param_with_its_parameters(tmp_path: Path) -> None:
    store, path = tmp_path / "runs", "parts.residual.activation"
    given = [f"activation@{path}=leaky_relu", f"{path}.negative_slope=0.25", "activation=swish"]
    assert main(["train", f"store={store}", *TINY, *given]) == 0
    tracker = Tracker(None, "denoise-search", store)
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.data.params[path] == "leaky_relu" and run.data.params[f"{path}.leaky_relu.negative_slope"] == "0.25"
    assert run.data.params["activation"] == "swish" and "parts.transformer.activation" not in run.data.params


def test_artifacts_of_a_trial(books: Books, tmp_path: Path) -> None:
    kept = {books.best.run_id, books.records[0].run_id}
    for record in books.records:
        files = books.files(record.run_id, tmp_path)
        assert yaml.safe_load(files["config.yaml"])["model"]["width"] == 8
        assert ("health.svg" in files) == ("health.json" in files) == ("duplicate_of" not in record.tags)
        if record.outcome == "complete" and "duplicate_of" not in record.tags:
            assert files["samples.png"].startswith(PNG)
            assert [files[name] for name in files if re.match(r"images/samples\+step\+8\+.*png", name)] == [
                files["samples.png"]
            ]
            assert "conv_in" in json.loads(files["health.json"])["layers"]
        else:
            assert "samples.png" not in files
        has_weights = any(name.startswith("weights/") for name in files)
        assert has_weights == (record.run_id in kept), "the weights of the best and of the baseline, and no others"


def test_artifacts_of_a_search(books: Books, tmp_path: Path) -> None:
    files = books.files(books.parent.info.run_id, tmp_path)
    assert files["data.png"].startswith(PNG)
    assert {"space.json", "config.yaml", "leaderboard.json", "leaderboard.txt", "leaderboard.svg", "best.yaml"} <= set(
        files
    )
    board = json.loads(files["leaderboard.json"])
    assert board[0]["run"] == books.best.run_id and board[0]["val/loss"] == books.best.value
    assert {row["trial"] for row in board} == {record.number for record in books.records}
    assert "activation" in json.loads(files["space.json"])["options"]
    parent = books.client.get_run(books.parent.info.run_id)
    assert parent.data.tags["best"] == books.best.run_id
    assert parent.data.metrics["best/val/loss"] == books.best.value
    assert parent.data.metrics["search/wall_seconds"] > 0


def test_the_winner_is_the_champion(books: Books) -> None:
    version = champion(books.tracker)
    assert version.run_id == books.best.run_id


def test_best_reproduce_and_sample_work_from_a_server(
    remote: Books, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"store={tmp_path / 'runs'}", f"tracking.uri={server}"]
    assert main(["report", *arguments]) == 0
    assert f"{remote.best.value:.4f}" in capsys.readouterr().out
    assert main(["best", *arguments]) == 0, capsys.readouterr().err
    assert remote.best.run_id in capsys.readouterr().out
    assert main(["reproduce", *arguments]) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert main(["sample", *arguments]) == 0
    (picture,) = (tmp_path / "runs").glob("*.png")
    assert picture.read_bytes().startswith(PNG)


def test_more_trials_go_on_from_a_server(remote: Books, server: str) -> None:
    before = {record.number: (record.run_id, record.value) for record in remote.records}
    arguments = [
        f"store={remote.store}",
        f"tracking.uri={server}",
        *TINY,
        "search.n_trials=4",
        "search.confirm.finalists=0",
    ]
    assert main(["search", *arguments]) == 0
    after = remote.tracker.records(remote.parent.info.run_id)
    found = {record.number: (record.run_id, record.value) for record in after}
    assert len(after) == 4 and {n: found[n] for n in before} == before


def test_an_interrupted_run_says_so_and_can_be_gone_on_with(local: Books) -> None:
    run = local.tracker.start("interrupted", {"role": "interrupted"}, {})
    run.metrics(1, {"a": 1.0})
    run.interrupt()
    found = local.client.get_run(run.run_id)
    assert found.info.status == "KILLED" and found.data.metrics["a"] == 1.0 and "outcome" not in found.data.tags
    again: Run = local.tracker.run(run.run_id)
    again.metrics(2, {"a": 2.0})
    again.end("complete")
    found = local.client.get_run(run.run_id)
    local.client.delete_run(run.run_id)
    assert found.info.status == "FINISHED" and found.data.metrics["a"] == 2.0


@pytest.mark.parametrize("quote", ["a'b", "a`b", 'a"b', "a and b = 'c", "100%"])
def test_find_takes_any_text_as_a_value(local: Books, quote: str) -> None:
    run = local.tracker.start("odd", {"role": "odd", "study": quote}, {})
    found = [one.info.run_id for one in local.tracker.find(role="odd", study=quote)]
    local.client.delete_run(run.run_id)
    assert found == [run.run_id]


def test_where_the_tracker_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert resolve_uri("http://here", tmp_path) == "http://here"
    assert resolve_uri(None, tmp_path) == "http://elsewhere"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert resolve_uri(None, tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_a_server_that_is_not_there_is_refused_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = waits(monkeypatch)
    with pytest.raises(UserError, match="127.0.0.1:1"):
        Tracker("http://127.0.0.1:1", "denoise-search", tmp_path / "runs")
    assert sum(waited) < 30
    assert not (tmp_path / "runs").exists()


def test_a_server_that_goes_away_while_training_loses_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tracker refuses in the middle: one line and no traceback, whatever verb it was."""
    from mlflow.exceptions import MlflowException

    def gone(*args: object, **more: object) -> None:
        raise MlflowException("API request failed: connection refused")

    monkeypatch.setattr(Run, "flush", gone)
    assert main(["train", f"store={tmp_path / 'runs'}", *TINY]) in (1, 2)
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "connection refused" in err

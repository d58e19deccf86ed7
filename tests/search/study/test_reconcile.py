"""Optuna's trials and MLflow's runs after one of them was deleted, lost, exchanged or torn: said, and made to agree."""

import copy
import json
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from mlflow.tracking import MlflowClient
from safetensors.torch import save

from denoise.errors import UserError
from denoise.training import train
from search.__main__ import main
from search.storages import sqlite
from search.study import loop
from search.study.spec import Search
from search.tracking.artifacts import Files
from search.tracking.tracker import STATUS, Run, Tracker, open_tracker, record
from tests import quick
from tests.search.storages.test_odd_stores import EXPERIMENT

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
TRIALS = 5
ASKED = [*quick.SMALL, *quick.CHOICES, f"search.n_trials={TRIALS}"]
WEIGHTS = save({"w": torch.ones(3)})
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def formula(cfg: Any, module: Any, observer: Any, *args: Any) -> train.Result:
    """As in quick, with one option that raises and one that is stopped."""
    observer.on_metrics(0, {"cost/parameters": 7.0, "cost/samples_per_second": 3.0})
    if "Lion" in str(cfg.optimizer._target_) and float(cfg.optimizer.lr) > 0.003:
        raise ValueError("no such luck")
    if "SGD" in str(cfg.optimizer._target_):
        observer.on_metrics(2, {"val/loss": 0.5})
        observer.on_objective(2, 0.5)
        return train.Result("stopped", 2, {"val/loss": 0.5}, {}, "0" * 64)
    return quick.formula(cfg, module, observer, *args)


def never(*args: Any) -> train.Result:
    raise AssertionError("trained again")


@dataclass
class Store:
    """A store, and what happens in it."""

    path: Path
    monkeypatch: pytest.MonkeyPatch
    experiment: str = EXPERIMENT
    uri: str | None = None

    @cached_property
    def tracker(self) -> Tracker:
        return open_tracker(self.uri, self.experiment, self.path)

    def asked(self, *more: str) -> Search:
        """The search, here; checked once for all stores."""
        found = quick.asked("store=nowhere", *ASKED, *more)
        found = replace(found, store=self.path, storage_url=sqlite.url(self.path / "optuna.db"))
        if self.uri or self.experiment != EXPERIMENT:
            found = replace(found, composed=copy.deepcopy(found.composed))
            found.composed.cfg.tracking.experiment, found.composed.cfg.tracking.uri = self.experiment, self.uri
        return found

    def search(self, *more: str, fit: Callable[..., Any] = formula) -> list[str]:
        """Search, and return what was said."""
        quick.free(self.monkeypatch)
        self.monkeypatch.setattr(train, "fit", fit)
        prepared, display = self.asked(*more), quick.Silent()
        loop.run(prepared, *loop.open_stores(prepared), display, 0.0)  # type: ignore[arg-type]
        return [note for note in display.notes if "weights were not kept" not in note]

    def parent(self) -> Any:
        (parent,) = self.tracker.searches()
        return parent

    def rows(self) -> list[Any]:
        """What the leaderboard is made of, by trial."""
        found = self.tracker.records(self.parent().info.run_id)
        cost = {r.number: None if r.outcome == "failed" else r.metrics.get("cost/parameters") for r in found}
        kept = [(r.number, r.outcome, r.step, r.value, r.overrides, cost[r.number]) for r in found]
        return sorted(kept, key=lambda row: row[0] or 0)

    def run(self, number: int) -> Any:
        (run,) = self.tracker.find(**{"mlflow.parentRunId": self.parent().info.run_id, "trial": str(number)})
        return run

    def study(self) -> Any:
        url = sqlite.url(self.path / "optuna.db")
        (name,) = optuna.get_all_study_names(url)
        return optuna.load_study(study_name=name, storage=url)

    def agree(self) -> None:
        """Each trial has one run, which is closed and says what the trial does; nothing else is open."""
        tracker, parent = self.tracker, self.parent()
        runs = tracker.find(**{"mlflow.parentRunId": parent.info.run_id, "role": "trial"})
        trials = self.study().trials
        assert sorted(int(run.data.tags["trial"]) for run in runs) == [trial.number for trial in trials]
        for run in runs:
            one, trial = record(run), trials[int(run.data.tags["trial"])]
            assert one.outcome == STATES[trial.state.name] and run.info.status == STATUS[one.outcome]
            assert trial.state.name != "COMPLETE" or one.value == trial.value
        assert tracker.open(parent.info.run_id) == [] and parent.info.status == "FINISHED"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that ended, with trials of every state."""
    path = tmp_path_factory.mktemp("origin") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        store = Store(path, patch)
        store.search()
        store.agree()
        assert {row[1] for row in store.rows()} == set(STATES.values())
        Run(store.tracker, store.parent().data.tags["best"]).artifacts({"weights.safetensors": WEIGHTS}, "weights")
    return path


@pytest.fixture
def store(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(Path(shutil.copytree(origin, tmp_path / "runs")), monkeypatch)


def refused(store: Store, match: str) -> str:
    with pytest.raises(UserError, match=match) as error:
        store.search(fit=never)
    assert "\n" not in str(error.value)
    return str(error.value)


def read(store: Store, verb: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """What a verb that reads says."""
    capsys.readouterr()
    typed = [f"store={store.path}", f"tracking.experiment={store.experiment}"]
    typed += [f"tracking.uri={store.uri}"] if store.uri else []
    status = main([verb, *typed])
    said = capsys.readouterr()
    return status, said.err if status else said.out + said.err


def test_some_runs_deleted_in_mlflow_are_left_out_and_said(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    whole, best = store.rows(), store.parent().data.tags["best"]
    gone = [store.tracker.record(best).number, next(row[0] for row in whole if row[1] == "failed")]
    assert [row[1] for row in whole].count("complete") > 1
    ids = [store.run(number).info.run_id for number in gone]
    for run_id in ids:
        store.tracker.client.delete_run(run_id)
    status, said = read(store, "best", capsys)
    assert status == 0 and f"run {best}, that it ended with, is deleted in MLflow" in said
    line = f"deleted in MLflow and left out: trial {', '.join(map(str, sorted(set(gone))))};"
    for _ in range(2):
        assert line in " ".join(store.search(fit=never)) and store.rows() == [r for r in whole if r[0] not in gone]
        assert line in read(store, "report", capsys)[1]
    for run_id in set(ids):
        store.tracker.client.restore_run(run_id)
    assert "deleted" not in " ".join(store.search(fit=never)) and store.rows() == whole
    store.agree()


@pytest.mark.parametrize("what", ["trials", "search", "all"])
def test_a_search_deleted_in_mlflow_is_refused_until_it_is_brought_back(
    what: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parent = store.rows(), store.parent().info.run_id
    ids = [store.run(row[0]).info.run_id for row in whole] if what != "search" else []
    ids += [parent] if what != "trials" else []
    for run_id in ids:
        store.tracker.client.delete_run(run_id)
    assert "State: Deleted" in refused(
        store, f"^search .*: .* (is|are) deleted in MLflow; .*{store.path}|deleted in MLflow"
    )
    status, said = read(store, "best", capsys)
    assert status == 2 and "deleted in MLflow" in said and len(said.splitlines()) == 1
    assert read(store, "report", capsys)[0] == (0 if what == "trials" else 2)
    assert len(store.study().trials) == TRIALS and store.tracker.searches() == [] if what != "trials" else True
    for run_id in ids:
        store.tracker.client.restore_run(run_id)
    assert store.search(fit=never) == [] and store.rows() == whole
    store.agree()


def test_a_search_whose_runs_are_deleted_is_begun_anew_under_a_name(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = store.rows()
    store.tracker.client.delete_run(store.parent().info.run_id)
    assert "search.name=NAME and the same make search" in refused(store, "deleted in MLflow")
    store.search("search.name=NAME")
    assert store.parent().info.run_name.startswith("NAME-")
    assert len(store.rows()) == TRIALS and store.rows()[0] == whole[0]
    assert read(store, "best", capsys)[0] == 0


def lose(store: Store) -> Store:
    for path in store.path.glob("mlflow.db*"):
        path.unlink()
    return Store(store.path, store.monkeypatch)


@pytest.mark.parametrize("how", ["lost", "another tracker", "another experiment"])
def test_runs_that_mlflow_lacks_are_written_anew(
    how: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, best = store.rows(), store.parent().data.tags["best"]
    config = store.tracker.artifact(best, "config.yaml", tmp_path).read_bytes()
    now = {
        "lost": store,
        "another tracker": replace(store, uri=sqlite.url(tmp_path / "other.db")),
        "another experiment": replace(store, experiment="other"),
    }[how]
    if how == "lost":
        now = lose(store)
    status, said = read(now, "best", capsys)
    assert status == 2 and len(said.splitlines()) == 1
    assert "make search" in said or "no such experiment" in said
    (note,) = now.search(fit=never)
    assert note == f"MLflow has no run of {TRIALS} trials that Optuna has: written anew, without what only MLflow had"
    assert now.rows() == whole
    now.agree()
    assert read(now, "best", capsys)[0] == 0
    if how == "lost":
        anew = now.tracker.record(best)
        assert anew.run_id != best and anew.tags["weights_sha256"] == train.sha256({"w": torch.ones(3)})
        assert now.tracker.artifact(anew.run_id, "config.yaml", tmp_path).read_bytes() == config
        assert now.tracker.artifact(anew.run_id, "weights/weights.safetensors", tmp_path).read_bytes() == WEIGHTS
        assert now.search(f"search.n_trials={TRIALS + 1}") == [] and len(now.rows()) == TRIALS + 1
    else:
        assert read(store, "best", capsys)[0] == 0 and store.rows() == whole, "what was there is as it was"
    now.agree()


def test_a_torn_file_of_weights_is_none_that_a_run_written_anew_has(store: Store) -> None:
    whole, best = store.rows(), store.parent().data.tags["best"]
    path = store.path / "artifacts" / best / "artifacts" / "weights" / "weights.safetensors"
    path.write_bytes(WEIGHTS[:-1])
    now = lose(store)
    assert len(now.search(fit=never)) == 1 and now.rows() == whole
    assert "weights_sha256" not in now.tracker.record(best).tags
    now.agree()


@pytest.mark.parametrize("at", [(Files, "adopt"), (Run, "end")])
def test_a_kill_while_runs_are_written_anew_leaves_none_of_them_torn(
    at: tuple[type, str], store: Store, tmp_path: Path
) -> None:
    whole, best = store.rows(), store.parent().data.tags["best"]
    curve = [(m.step, m.value) for m in store.tracker.client.get_metric_history(best, "val/loss")]
    store = lose(store)

    def killed(*args: Any, **more: Any) -> None:
        raise quick.Killed

    with store.monkeypatch.context() as patch, pytest.raises(quick.Killed):
        patch.setattr(*at, killed)
        store.search(fit=never)
    assert store.search(fit=never)[1:] == [] and store.rows() == whole
    anew = store.tracker.record(best).run_id
    assert store.tracker.artifact(anew, "weights/weights.safetensors", tmp_path).read_bytes() == WEIGHTS
    found = [(m.step, m.value) for m in store.tracker.client.get_metric_history(anew, "val/loss")]
    assert sorted(set(found)) == curve
    store.agree()


def test_a_search_whose_trials_are_lost_is_refused(store: Store, tmp_path: Path) -> None:
    kept, whole = tmp_path / "kept", store.rows()
    kept.mkdir()
    for path in store.path.glob("optuna.db*"):
        path.rename(kept / path.name)
    assert f"MLflow has {TRIALS} trials of it" in refused(store, "Optuna's storage has none")
    assert store.rows() == whole and store.parent().info.status == "FINISHED"
    other = Store(Path(shutil.copytree(store.path, tmp_path / "other")), store.monkeypatch)
    other.search("search.name=NAME")
    names = [run.info.run_name for run in other.tracker.searches()]
    assert names[0].startswith("NAME-") and len(names) == 2, "search.name=NAME begins anew"
    for path in store.path.glob("optuna.db*"):
        path.unlink()
    for path in kept.iterdir():
        path.rename(store.path / path.name)
    assert store.search(fit=never) == [], "what was brought back is resumed"
    store.agree()


def test_runs_ahead_of_the_trials_are_deleted_and_trained_again(store: Store, tmp_path: Path) -> None:
    """A store that was copied while it ran: mlflow.db after optuna.db."""
    for path in store.path.glob("optuna.db*"):
        shutil.copyfile(path, tmp_path / path.name)
    store.search(f"search.n_trials={TRIALS + 2}")
    whole = store.rows()
    for path in store.path.glob("optuna.db*"):
        path.unlink()
    for path in tmp_path.glob("optuna.db*"):
        shutil.copyfile(path, store.path / path.name)
    (note,) = store.search(f"search.n_trials={TRIALS + 2}")
    assert note == "MLflow has runs of 2 trials that Optuna does not have: deleted there, trained again"
    assert store.rows() == whole
    store.agree()


def tear(store: Store, what: str) -> None:
    """Let MLflow say another thing than Optuna, as a kill, an outage or a frozen process did."""
    client, parent = store.tracker.client, store.parent().info.run_id
    runs = {row[1]: store.run(row[0]).info.run_id for row in store.rows()}
    if what == "open":
        for run_id in (*runs.values(), parent):
            client.update_run(run_id, status="RUNNING")
        client.create_run(store.tracker.experiment_id, tags={"mlflow.parentRunId": parent, "role": "confirm"})
    elif what == "no outcome":
        for run_id in runs.values():
            client.delete_tag(run_id, "outcome")
            client.update_run(run_id, status="RUNNING")
    elif what == "another outcome":
        client.set_tag(runs["complete"], "outcome", "failed")
        client.set_tag(runs["complete"], "failure", "error: the tracker was away")
        client.set_terminated(runs["complete"], "FAILED")
        client.set_tag(runs["pruned"], "outcome", "complete")
    elif what == "value and twins":
        client.log_metric(runs["complete"], "val/loss", 1e-9, step=8)
        for row in store.rows():
            tags = {"mlflow.parentRunId": parent, "role": "trial", "trial": str(row[0]), "overrides": "[]"}
            client.create_run(store.tracker.experiment_id, tags=tags)


@pytest.mark.parametrize("what", ["open", "no outcome", "another outcome", "value and twins"])
def test_states_that_differ_are_as_optuna_has_them(what: str, store: Store) -> None:
    whole = store.rows()
    tear(store, what)
    with pytest.raises(AssertionError):
        store.agree()
    store.search(fit=never)
    assert store.rows() == whole
    store.agree()


def test_a_run_that_was_made_twice_meanwhile_is_one_at_the_end(store: Store) -> None:
    """A reply that is lost is asked for once more: MLflow has made the run already."""
    create = MlflowClient.create_run

    def twice(*args: Any, **more: Any) -> Any:
        create(*args, **more)
        return create(*args, **more)

    store.monkeypatch.setattr(MlflowClient, "create_run", twice)
    store.search(f"search.n_trials={TRIALS + 2}")
    assert len(store.rows()) == TRIALS + 2
    store.agree()


@pytest.mark.parametrize("at", ["params", "artifacts", "twin"])
def test_the_run_of_a_search_is_whole_after_a_kill(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "runs", monkeypatch)
    prepared = store.asked()
    if at == "twin":  # a reply that was lost: MLflow's client asks once more
        for _ in range(2):
            store.tracker.start(prepared.name, {"role": "search", "study": prepared.name, "baseline": "[]"}, {})
    else:
        with monkeypatch.context() as patch, pytest.raises(quick.Killed):
            patch.setattr(Run, at, lambda *args: (_ for _ in ()).throw(quick.Killed()))
            loop.open_parent(store.tracker, prepared)
    for _ in range(2):
        run_id = loop.open_parent(store.tracker, prepared).run_id
        parent = store.parent()
        assert parent.info.run_id == run_id
        assert {"mode", "trials", "kinds", "data", "model", "seed", "sampler", "pruner"} <= set(parent.data.params)
        assert all(store.tracker.has(run_id, name) for name in ("space.json", "config.yaml"))


def test_a_deleted_experiment_is_brought_back_by_the_printed_command(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    from click.testing import CliRunner
    from mlflow.cli import cli

    whole = store.rows()
    store.tracker.client.delete_experiment(store.tracker.experiment_id)
    said = refused(store, f"^tracking.experiment={EXPERIMENT}: is deleted in MLflow; bring it back with ")
    assert read(store, "best", capsys) == (2, f"{said}\n")
    address, program, *words = shlex.split(said.partition("back with ")[2].partition(", or give")[0])
    assert [program, *words[:2]] == [".venv/bin/python", "-m", "mlflow"]
    name, _, value = address.partition("=")
    assert CliRunner().invoke(cli, words[2:], env={name: value}).exit_code == 0
    assert store.search(fit=never) == [] and store.rows() == whole


@pytest.mark.faults
@pytest.mark.parametrize(
    "planted", [["store=${oc.env:HOME}"], ["optimizer._target_=os.system"], ["+allow=[os]"], "activation=silu", [1]]
)
def test_what_was_put_into_the_storage_is_not_carried_out(planted: Any, store: Store) -> None:
    text = json.dumps(planted)
    with sqlite3.connect(store.path / "optuna.db") as opened:
        where = "key = 'overrides' AND trial_id = (SELECT min(trial_id) FROM trials)"
        assert opened.execute(f"UPDATE trial_user_attributes SET value_json = ? WHERE {where}", [text]).rowcount == 1
    with pytest.raises(UserError, match="trial 0 in the storage") as refused:
        lose(store).search(fit=never)
    assert "\n" not in str(refused.value)


def test_what_was_written_anew_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that is lost is compared, and nothing that is known is left out."""
    store = Store(tmp_path / "runs", monkeypatch)
    fit = train.fit
    store.search("search.n_trials=1")
    lose(store).search("search.n_trials=1", fit=never)
    monkeypatch.setattr(train, "fit", formula)
    status, said = read(store, "reproduce", capsys)
    assert status == 0 and "weights_sha256" not in said and "data_sha256" in said, said
    monkeypatch.setattr(train, "fit", fit)

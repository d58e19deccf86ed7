"""Whole searches on real storage: the same twice, the same after kills, and what fails fails in all three places."""

import json
import random
import shlex
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from safetensors.torch import load_file

from denoise.training import train
from search.__main__ import main
from search.tracking.record import Record
from search.tracking.tracker import Tracker, open_tracker
from tests import tiny
from tests.process import PATIENCE, run, start

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = [*tiny.TINY, "data.batch_size=8", "trainer.max_steps=8", "trainer.val_every=2"]
SEARCH = [*TINY, "search.confirm.finalists=0"]  # what is confirmed has tests of its own
TRIALS = 8
OUTCOMES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass
class Searched:
    """A finished search, as each of its three books has it."""

    store: Path
    study: optuna.Study
    parent: Any
    records: list[Record]
    leaderboard: list[dict[str, Any]]

    def by_number(self) -> dict[int, Record]:
        return {int(record.number or 0): record for record in self.records}

    def content(self) -> list[tuple[int, list[str], str, int, float | None]]:
        """All that must be the same in two searches of one command."""
        found = sorted(self.by_number().items())
        return [(number, r.overrides, r.outcome, r.step, r.value) for number, r in found]


def books(store: Path, name: str | None = None) -> Searched:
    tracker = Tracker(None, "denoise-search", store)
    searches = [run for run in tracker.searches() if name is None or run.info.run_name.startswith(name)]
    (parent,) = searches
    study = optuna.load_study(study_name=parent.info.run_name, storage=f"sqlite:///{store / 'optuna.db'}")
    listed = store / "artifacts" / parent.info.run_id / "artifacts" / "leaderboard.json"
    return Searched(store, study, parent, tracker.records(parent.info.run_id), json.loads(listed.read_text()))


def searched(store: Path, *overrides: str, flags: tuple[str, ...] = ()) -> Searched:
    status = main(["search", *flags, f"store={store}", *SEARCH, *overrides])
    assert status == 0
    return books(store)


def only(kind: str, options: str) -> list[str]:
    """Search one kind, and of it these options; all other kinds keep the baseline's option."""
    defaults = {
        **{"activation": "silu", "normalization": "group_norm", "weight_normalization": "none"},
        **{"initializer": "torch_default", "feed_forward": "mlp", "optimizer": "adamw", "lr_schedule": "constant"},
    }
    fixed = [f"search.kinds.{other}=[{option}]" for other, option in defaults.items() if other != kind]
    return ["lr_schedule=constant", f"search.kinds.{kind}=[{options}]", *fixed]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    store = tmp_path_factory.mktemp("first") / "runs"
    return searched(store, f"search.n_trials={TRIALS}", "trainer.save_seconds=0.0")


def test_trial_0_is_the_baseline(first: Searched) -> None:
    baseline = first.by_number()[0]
    assert baseline.overrides == json.loads(first.parent.data.tags["baseline"])
    assert baseline.outcome == "complete"
    chosen = dict(text.partition("=")[::2] for text in baseline.overrides)
    assert chosen["activation"] == "silu" and chosen["optimizer"] == "adamw" and chosen["optimizer.lr"] == "0.002"


def test_there_are_as_many_trials_as_were_asked_for(first: Searched) -> None:
    assert sorted(first.by_number()) == list(range(TRIALS)) and len(first.records) == TRIALS
    assert [trial.number for trial in first.study.trials] == list(range(TRIALS))


def test_bad_trials_are_stopped_early(first: Searched) -> None:
    pruned = [record for record in first.records if record.outcome == "pruned"]
    assert pruned and all(record.step in (2, 4, 6) for record in pruned)
    assert all(record.step == 8 for record in first.records if record.outcome == "complete")


def test_optuna_mlflow_and_the_leaderboard_agree_on_every_trial(first: Searched) -> None:
    listed = {row["trial"]: row for row in first.leaderboard}
    status = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}
    assert set(listed) == set(first.by_number())
    tracker = Tracker(None, "denoise-search", first.store)
    for trial in first.study.trials:
        record, row = first.by_number()[trial.number], listed[trial.number]
        assert OUTCOMES[trial.state.name] == record.outcome == row["outcome"]
        assert tracker.client.get_run(record.run_id).info.status == status[record.outcome]
        assert row["val/loss"] == record.value and row["step"] == record.step
        assert trial.user_attrs["overrides"] == record.overrides == row["overrides"]
        assert trial.user_attrs["run_id"] == record.run_id == row["run"]
        if record.outcome == "complete":
            assert trial.value == record.value
        if record.outcome == "pruned":
            assert trial.intermediate_values[record.step] == record.value


def test_no_checkpoint_is_left(first: Searched) -> None:
    assert [path for path in (first.store / "checkpoints").rglob("*") if path.is_file()] == []


def test_the_same_search_in_another_store_gives_the_same_trials(first: Searched, tmp_path: Path) -> None:
    second = searched(tmp_path / "runs", f"search.n_trials={TRIALS}", "trainer.save_seconds=0.0")
    assert second.content() == first.content()
    assert second.parent.info.run_name == first.parent.info.run_name


def test_another_seed_gives_other_trials(first: Searched, tmp_path: Path) -> None:
    second = searched(tmp_path / "runs", "search.n_trials=2", "trainer.save_seconds=0.0", "seed=1")
    assert second.by_number()[0].value != first.by_number()[0].value


# the system ends the process so many seconds after the `number`-th call of a method
ENDS_SOON = """
import signal


def ends_soon(owner, name, number, seconds):
    calls, method = [], getattr(owner, name)

    def counted(*args, **more):
        done = method(*args, **more)
        calls.append(name)
        if len(calls) == number:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        return done

    setattr(owner, name, counted)


"""
WHILE_IT_STARTS = "from search.study import loop\nends_soon(loop, 'open_study', 1, {})"
AT_ITS_EVALUATIONS = "from search.storages.trials import Trials\nends_soon(Trials, 'report', 6, {})"


@pytest.mark.faults
def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(first: Searched, tmp_path: Path) -> None:
    store, luck, output = tmp_path / "runs", random.Random(7), tmp_path / "output"
    command = ["search", f"store={store}", *SEARCH, f"search.n_trials={TRIALS}", "trainer.save_seconds=0.0"]
    for moment in (WHILE_IT_STARTS, AT_ITS_EVALUATIONS):
        process = start(command, output, ENDS_SOON + moment.format(luck.uniform(0.01, 0.2)))
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGALRM, f"it was not killed: {output.read_text()}"
    with closing(sqlite3.connect(store / "optuna.db")) as base:
        (done,) = base.execute("SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')").fetchone()
    assert done < TRIALS, "killed too late to show anything"
    assert run(command, output) == 0, output.read_text()
    again = books(store)
    assert again.content() == first.content()
    tracker = Tracker(None, "denoise-search", store)
    runs = tracker.client.search_runs([tracker.experiment_id])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}, "a run still says RUNNING"
    assert len(runs) == TRIALS + 1, "one run a trial and one of the search"
    assert [path for path in (store / "checkpoints").rglob("*") if path.is_file()] == []
    metrics = {r.run_id: r.metrics for r in again.records}
    for number, record in first.by_number().items():
        other = metrics[again.by_number()[number].run_id]
        same = {key: value for key, value in record.metrics.items() if not key.startswith("cost/")}
        assert {key: other.get(key) for key in same} == same, f"trial {number} measured something else"
    noted = {number: record.tags.get("weights_at") for number, record in first.by_number().items()}
    assert {number: record.tags.get("weights_at") for number, record in again.by_number().items()} == noted


# where a kill leaves most behind, each as code that ends the process there without a word
MOMENTS = {
    "a trial is about to be stopped": """
decide = decision.should_stop


def die(*args):
    if decide(*args):
        os._exit(9)
    return False


decision.should_stop = die
""",
    "a trial's outcome is written and its run is not closed": """
def die(self, run_id, status=None, end_time=None):
    if status == "FINISHED":
        os._exit(9)
    close(self, run_id, status, end_time)


close, MlflowClient.set_terminated = MlflowClient.set_terminated, die
""",
    "a trial's run is closed and the study does not know": """
def die(self, trial, values=None, state=None, **more):
    if state is not None:
        os._exit(9)
    return tell(self, trial, values, state, **more)


tell, optuna.Study.tell = optuna.Study.tell, die
""",
    "the best weights so far are not kept yet": """
def die(search, run_id, result):
    calls.append(result)
    if len(calls) == 2:
        os._exit(9)
    keep(search, run_id, result)


calls, keep, attempt._keep = [], attempt._keep, die
""",
}
BEFORE = """
import os
import optuna
from mlflow.tracking import MlflowClient
from search.study import objective as attempt
from search.pruners import decision
"""


def killed_at(moment: str, arguments: list[str], before: str = "") -> None:
    (store,) = (text.partition("=")[2] for text in arguments if text.startswith("store="))
    open_tracker(None, "denoise-search", Path(store))  # MLflow's tables are made here, where it is quick
    output = Path(store) / "output"
    assert run(arguments, output, BEFORE + before + MOMENTS[moment]) == 9, f"not killed there: {output.read_text()}"


@pytest.mark.faults
@pytest.mark.parametrize("moment", list(MOMENTS)[:3])
def test_a_search_killed_at_the_worst_moment_ends_with_the_same_trials(
    moment: str, first: Searched, tmp_path: Path
) -> None:
    store = tmp_path / "runs"
    overrides = [f"search.n_trials={TRIALS}", "trainer.save_seconds=0.0"]
    killed_at(moment, ["search", f"store={store}", *SEARCH, *overrides])
    found = searched(store, *overrides)
    assert found.content() == first.content()
    tracker = Tracker(None, "denoise-search", store)
    runs = tracker.client.search_runs([tracker.experiment_id])
    assert [run.info.run_name for run in runs if run.info.status == "RUNNING"] == []
    assert len(runs) == TRIALS + 1


@pytest.mark.faults
def test_the_champion_has_its_own_weights_after_a_kill(tmp_path: Path) -> None:
    """The second trial is better than the first, and the process ends before its weights are kept."""
    store = tmp_path / "runs"
    overrides = ["search.n_trials=2", "pruner=none"]
    killed_at("the best weights so far are not kept yet", ["search", f"store={store}", *SEARCH, *overrides])
    found = searched(store, *overrides)
    top = found.leaderboard[0]
    assert top["trial"] == 1
    tracker = Tracker(None, "denoise-search", store)
    path = tracker.artifact(top["run"], "weights/weights.safetensors", tmp_path)
    assert train.sha256(load_file(path)) == found.by_number()[1].tags["weights_sha256"], "another trial's weights"


def test_more_trials_go_on_with_the_same_search(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    before = searched(store, "search.n_trials=2")
    status = main(["search", f"store={store}", *SEARCH, "search.n_trials=2"])
    assert status == 0 and books(store).content() == before.content(), "nothing to do must change nothing"
    after = searched(store, "search.n_trials=4")
    assert after.parent.info.run_id == before.parent.info.run_id
    assert len(after.records) == 4 and after.content()[:2] == before.content()
    assert len(after.leaderboard) == 4


def test_a_diverging_trial_fails_everywhere_and_the_search_goes_on(tmp_path: Path) -> None:
    space = ["optimizer=sgd", "optimizer.space.lr.high=1e9", "trainer.log_every=1", "pruner=none"]
    kinds = [text for text in only("optimizer", "sgd") if text != "search.kinds.optimizer=[adamw]"]
    found = searched(tmp_path / "runs", *kinds, *space, "search.n_trials=6")
    failed = [record for record in found.records if record.outcome == "failed"]
    assert failed, "no rate up to 1e9 diverged"
    assert found.by_number()[0].outcome == "complete" and len(found.records) == 6
    listed = {row["trial"]: row for row in found.leaderboard}
    tracker = Tracker(None, "denoise-search", found.store)
    for record in failed:
        trial = found.study.trials[int(record.number or 0)]
        assert trial.state.name == "FAIL" and trial.user_attrs["outcome"] == "diverged"
        assert tracker.client.get_run(record.run_id).info.status == "FAILED"
        assert record.tags["failure_kind"] == "diverged" and record.tags["failure_layer"]
        assert 1 <= record.step <= 8 and f"step {record.step}" in record.failure
        assert record.tags["failure_layer"] in record.failure
        assert listed[record.number]["outcome"] == "failed" and listed[record.number]["failure"] == record.failure


def broken_option(folder: Path, target: str) -> Path:
    (folder / "activation").mkdir(parents=True)
    (folder / "activation" / "broken.yaml").write_text(f"# raises\n# nobody\n_target_: {target}\nspace: {{}}\n")
    return folder


def test_an_option_that_raises_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    """PairwiseDistance takes two tensors: it can be built and not be used."""
    folder = broken_option(tmp_path / "conf", "torch.nn.PairwiseDistance")
    kinds = only("activation", "silu,broken")
    start = "search.enqueue=[['activation=broken']]"
    found = searched(tmp_path / "runs", *kinds, start, "search.n_trials=3", flags=("--config-dir", str(folder)))
    failed = [record for record in found.records if record.outcome == "failed"]
    assert failed and found.by_number()[0].outcome == "complete" and len(found.records) == 3
    for record in failed:
        assert "activation=broken" in record.overrides
        assert record.tags["failure_kind"] == "error" and "TypeError" in record.failure
        assert found.study.trials[int(record.number or 0)].state.name == "FAIL"


def test_an_option_of_a_package_of_ones_own_is_trusted_by_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_parts_for_a_test.py").write_text(
        "import torch\n\n\nclass Half(torch.nn.Module):\n    def forward(self, x):\n        return x.relu() / 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = broken_option(tmp_path / "conf", "own_parts_for_a_test.Half")
    arguments = ["train", "--config-dir", str(folder), f"store={tmp_path / 'runs'}", *TINY, "activation=broken"]
    assert main(arguments) == 2
    advice = capsys.readouterr().err
    assert "allow=[own_parts_for_a_test.]" in advice
    assert main([*arguments, "allow=[own_parts_for_a_test.]"]) == 0, capsys.readouterr().err


def test_a_repeated_trial_is_not_trained_again(tmp_path: Path) -> None:
    """Two activations and nothing else leave two configs: the other trials are repeats, with the same value."""
    found = searched(tmp_path / "runs", *only("activation", "silu,relu"), *FIXED, "pruner=none", "search.n_trials=5")
    values = {tuple(record.overrides): record.value for record in found.records}
    assert len(values) <= 2
    assert all(record.value == values[tuple(record.overrides)] for record in found.records)
    repeats = [record for record in found.records if "duplicate_of" in record.tags]
    assert len(repeats) == 5 - len(values)
    originals = {record.run_id for record in found.records if "duplicate_of" not in record.tags}
    assert {record.tags["duplicate_of"] for record in repeats} <= originals


# domains of one value each, so that an option alone makes the config
FIXED = [
    *("optimizer.space.lr.low=0.002", "optimizer.space.lr.high=0.002", "normalization.space.num_groups.choices=[8]"),
    *("optimizer.space.weight_decay.low=0.01", "optimizer.space.weight_decay.high=0.01"),
]


def test_the_printed_command_can_be_typed(first: Searched) -> None:
    best = first.leaderboard[0]["overrides"]
    assert shlex.split(" ".join(best)) == best, "no override of a trial needs quoting inside ARGS"

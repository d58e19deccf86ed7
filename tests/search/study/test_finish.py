"""Which trial is taken after the confirmation, whose weights wait for it, what a record may not do."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, create_trial
from safetensors.torch import load_file

from denoise.errors import UserError
from denoise.training import train
from search.analysis.confirmation import Arm, Confirmation, Finalist, Settings, comparison
from search.analysis.ranking import distinct
from search.analysis.sequential_test import SequentialTest
from search.cli import choose_run
from search.confirmation import run
from search.confirmation.stored import load
from search.report import summary
from search.report.confirmation import take
from search.study import finish, width_transfer
from search.study.finish import worth
from search.study.modes import Ablation, Joint
from search.tracking.record import Record
from search.tracking.tracker import Tracker
from tests import quick
from tests.quick import Silent

SEEDS = range(1000, 1005)


def confirmed(*curves: list[float]) -> Confirmation:
    """The baseline's values over the seeds and each finalist's, nan where it diverged."""
    arms: list[Arm] = []
    for i, curve in enumerate(curves):
        arm = (Finalist if i else Arm)(f"run{i}", i, f"a{i}", [f"activation=a{i}"], 0.5)
        for k, (seed, value) in enumerate(zip(SEEDS, curve, strict=False)):
            arm.values[seed] = None if math.isnan(value) else value + 0.001 * ((k + i) % 3)
            arm.runs[seed] = f"run{i}-{seed}"
            if math.isnan(value):
                arm.failures[seed] = "diverged"
            else:
                arm.validation[seed] = value + 1
        arms.append(arm)
    finalists = [arm for arm in arms if isinstance(arm, Finalist)]
    for one in finalists:
        one.untuned = comparison(one, arms[0], SequentialTest(2, 5, 0.95), 0.0)
    return Confirmation(Settings(2, 5, 1000, 0.95, 32), arms[0], finalists)


def given(number: int, name: str, value: float) -> Record:
    return Record(number, f"run{number}", "complete", 8, [f"activation={name}"], value)


@pytest.mark.parametrize(
    ("starts", "curves", "said"),
    [
        ([0, 1], None, "(2) has a lower val/loss than the known start of trial 1 (a1)."),
        ([0, 1, 2, 3], None, ""),  # nothing was drawn
        ([0, 2], None, ""),  # the best was drawn
        ([], None, ""),  # a search of before, or one that asks something else
        ([0, 1], [[0.5] * 5, [0.4] * 5, [0.45] * 5], "is shown to be better than the known start of trial 1 (a1)."),
        ([0, 1], [[0.5] * 5, [0.45] * 5, [0.4] * 5], ""),  # by the fresh seeds one that was drawn is the best
        ([0, 1], [[0.5] * 5, [0.6] * 5, [0.6] * 5], ""),  # the confirmation itself says so
        ([0, 1], [[math.nan] * 5, [math.nan] * 5], ""),
    ],
)
def test_it_is_said_where_no_config_that_was_drawn_is_the_best(
    starts: list[int], curves: list[list[float]] | None, said: str
) -> None:
    records = [given(1, "a1", 0.3), given(2, "a2", 0.4), given(0, "a0", 0.5), given(3, "a3", 0.6)]
    found = confirmed(*curves) if curves is not None else None
    line = summary.undrawn(records, ["activation=a0"], starts, found)
    assert line.endswith(said) and bool(line) == bool(said)
    assert not line or line.startswith("None of the configs that were drawn (2)")


def test_that_no_draw_is_better_than_the_baseline_is_said_where_nothing_is_confirmed() -> None:
    records = [given(0, "a0", 0.3), given(1, "a1", 0.4)]
    line = summary.undrawn(records, ["activation=a0"], [0], None)
    assert line == "None of the configs that were drawn (1) has a lower val/loss than your config as it is."


@pytest.mark.filterwarnings("ignore")
def test_the_record_of_a_search_says_what_was_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = 'search.enqueue=[["optimizer=lion"],["optimizer=sgd","trainer.gradient_clip=1"]]'
    trials, _ = quick.run(tmp_path, [*quick.CHOICES, starts, "search.n_trials=5"], monkeypatch)
    tracker = Tracker(None, "denoise-search", tmp_path)
    (parent,) = tracker.searches()
    assert summary.starts(parent.data.tags["starts"]) == [0, 1, 2]
    assert "optimizer=lion" in trials[1][0] and "trainer.gradient_clip=1" in trials[2][0]


@pytest.mark.parametrize(
    ("curves", "number"),
    [
        ([[0.5] * 5, [0.4] * 3, [0.45] * 5], 1),
        ([[0.5] * 5, [0.6] * 5], 0),
        ([[0.5] * 5, [0.45, 0.52, 0.49, 0.47, 0.5]], 0),
        ([[0.5] * 5, [math.nan] * 4 + [0.1]], 0),
        ([[math.nan] * 5, [0.6] * 5, [0.55] * 5], 2),
        ([[math.nan] * 4 + [0.5], [0.6, 0.6, math.nan, 0.6, 0.6]], 0),
        ([[math.nan] * 5, [math.nan] * 5], None),
    ],
    ids=["better", "worse", "not shown", "it diverged", "the baseline diverged", "both often", "all did"],
)
def test_the_best_is_what_is_shown_to_be_better_else_the_baseline(
    curves: list[list[float]], number: int | None
) -> None:
    found = confirmed(*curves)
    assert (found.best.trial if found.best is not None else None) == number
    assert ("your config as it is" in take(found)) == (number == 0)
    assert ("nothing is shown to be better" in take(found)) == (number == 0)


def test_the_best_is_worth_its_mean_over_the_seeds_and_has_the_weights_of_the_typical_one() -> None:
    found = confirmed([0.5] * 5, [0.41, 0.4, 0.46, 0.4, 0.42])
    best = found.best
    assert best is not None and best.trial == 1
    expected = [0.411, 0.402, 0.46, 0.401, 0.422]
    assert best.finite == pytest.approx(expected) and best.typical[0] == 1000
    top = Record(None, "run1-1000", "complete", 10, [], 1.41)
    assert worth(top, found) == pytest.approx({"best/test/loss": np.mean(expected), "best/val/loss": 1.418})
    alone = Record(3, "run3", "complete", 10, [], 0.3)
    assert worth(alone, None) == {"best/val/loss": 0.3}


def done(number: int, value: float, arm: str = "") -> FrozenTrial:
    made = create_trial(value=value, user_attrs={"arm": arm})
    made.number = number
    return made


def test_weights_are_kept_of_what_may_be_confirmed() -> None:
    """Never the baseline's place, and one trial of equal values; in an ablation the best of each arm."""
    trials = [done(0, 0.1, "a"), done(1, 0.3, "b"), done(2, 0.3, "c"), done(3, 0.2, "b"), done(4, 0.4, "d")]
    mode = object.__new__(Joint)
    assert [trial.number for trial in mode.leaders(trials, 2)] == [3, 1]
    arms = object.__new__(Ablation)
    assert [trial.number for trial in arms.leaders(trials, 3)] == [3, 2, 4]


def test_a_config_that_is_there_twice_is_counted_once() -> None:
    def record(number: int, **tags: str) -> Record:
        return Record(number, f"run{number}", "complete", 1, [], 0.5, tags=tags)

    same = [record(0, config_sha256="x"), record(1, config_sha256="x", duplicate_of="run0")]
    other = record(2, config_sha256="y", duplicate_of="a run of another search")
    assert [one.number for one in distinct([*same, other])] == [0, 2]


def test_a_record_that_was_changed_chooses_no_code(tmp_path: Path) -> None:
    class Books:
        def find(self, **tags: str) -> list[Any]:
            return []

    settings: Any = OmegaConf.create({"to": 16, "path": "model.width", "trials": 3})
    made = tmp_path / "made"
    code = ["activation._target_=subprocess.getoutput", f"+activation.cmd=touch {made}"]
    for overrides in (["allow=[subprocess.]"], code):
        changed = Record(0, "run", "complete", 1, overrides, 0.5)
        with pytest.raises(UserError, match="would choose code to run"):
            width_transfer.train(settings, Books(), SimpleNamespace(run_id="run"), [changed], Silent())  # type: ignore[arg-type]
    assert not made.exists()


CONFIRMED = ["search.n_trials=4", "search.confirm.finalists=1", "search.confirm.seeds=3", *quick.CHOICES]


def on_test_images(better: float) -> Any:
    """The formula of quick trials with test triples; all configs but the baseline are better by `better` there."""

    def fit(cfg: Any, module: Any, *given: Any) -> train.Result:
        found = quick.formula(cfg, module, *given)
        if cfg.trainer.test_samples and found.outcome == "complete":
            equal = cfg.activation._target_.endswith("SiLU") and cfg.optimizer._target_.endswith("AdamW")
            loss = 0.5 + 0.001 * (cfg.seed * 7 % 3) * (1 if equal else -1) - (0 if equal else better)
            found.metrics["test/loss"] = loss
            given[0].on_metrics(found.step, {"test/loss": loss})
            losses = torch.full((32,), loss, dtype=torch.float64)
            found.tested, found.weights = {"losses": losses, "image": torch.arange(32)}, {"w": losses[:1]}
            found.weights_sha256 = train.sha256(found.weights)
        return found

    return fit


def judged(better: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on trainings are this formula, and nothing else takes time."""
    monkeypatch.setattr(
        quick, "free", lambda patch, free=quick.free: (free(patch), patch.setattr(train, "fit", on_test_images(better)))
    )
    monkeypatch.setattr(run, "ensembles", lambda *given: [])
    monkeypatch.setattr(finish.importance, "measure", lambda *given: None)


@pytest.mark.filterwarnings("ignore")
def test_a_champion_that_is_deleted_in_mlflow_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(0.1, monkeypatch)
    quick.run(tmp_path, CONFIRMED, monkeypatch)
    tracker = Tracker(None, "denoise-search", tmp_path)
    before = choose_run.chosen(tracker, None)
    gone = before.record.run_id
    tracker.client.delete_run(gone)
    says = choose_run.chosen(tracker, None).says
    assert says.endswith(
        f"; run {gone}, that it ended with, is deleted in MLflow, and the same make search trains it again"
    )
    _, display = quick.run(tmp_path, CONFIRMED, monkeypatch)
    assert "deleted in MLflow, so trained again: 1 of the trainings on fresh seeds" in display.notes
    now = choose_run.chosen(tracker, None)
    assert now.record.run_id != gone and (now.says, now.overrides) == (before.says, before.overrides)
    assert now.record.tags["weights_sha256"] == before.record.tags["weights_sha256"]
    champion = quick.champion(tracker)
    assert champion.run_id == now.record.run_id and tracker.has(champion.run_id, "weights")
    assert not [note for note in display.notes if "not kept" in note]
    tracker.files.write(champion.run_id, {"weights.safetensors": b"torn"}, "weights")  # type: ignore[union-attr]
    _, display = quick.run(tmp_path, CONFIRMED, monkeypatch)
    assert [note for note in display.notes if "weights were not kept: make reproduce" in note]
    tracker.files.write(tracker.searches()[0].info.run_id, {"confirmation.json": b"torn"})  # type: ignore[union-attr]
    assert choose_run.chosen(tracker, None).says.endswith("cannot be read, and the same make search makes it anew")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("better", "killed"), [(0.1, None), (0.0, "crown"), (0.1, "worth")])
def test_what_is_registered_is_a_run_on_a_fresh_seed(
    better: float, killed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(better, monkeypatch)
    store = tmp_path / "runs"
    if killed is not None:
        with monkeypatch.context() as patch, pytest.raises(quick.Killed):
            patch.setattr(finish, killed, lambda *given: (_ for _ in ()).throw(quick.Killed()))
            quick.run(store, CONFIRMED, monkeypatch)
    quick.run(store, CONFIRMED, monkeypatch)
    tracker = Tracker(None, "denoise-search", store)
    (parent,) = tracker.searches()
    found = load(tracker, parent.info.run_id)
    assert found is not None and found.best is (found.finalists[0] if better else found.baseline)
    best = tracker.record(parent.data.tags["best"])
    assert (
        best.tags["role"] == "confirm" and best.number is None and best.run_id == found.best.runs[found.best.typical[0]]
    )
    assert best.overrides[-2:] == [f"seed={found.best.typical[0]}", "trainer.test_samples=1024"]
    model = quick.champion(tracker)
    weights = tracker.artifact(best.run_id, "weights/weights.safetensors", tmp_path)
    assert model.run_id == best.run_id and load_file(weights)["w"].item() == best.metrics["test/loss"]
    metrics = parent.data.metrics
    assert metrics["best/test/loss"] == pytest.approx(found.best.mean) and "best/test/loss_high" in metrics
    assert metrics["best/val/loss"] == pytest.approx(np.mean(list(found.best.validation.values())))
    assert not list((store / "checkpoints").rglob("confirm-*")), "the others' weights are not kept"
    text = tracker.artifact(parent.info.run_id, "report.html", tmp_path).read_text()
    note = parent.data.tags["mlflow.note.content"]
    assert f"/runs/{best.run_id}?" in note and ("is shown to be better by" in note.splitlines()[0]) == bool(better)
    assert (
        note.splitlines()[0].strip("*") in text and ("difference_high" in metrics) and metrics["trials/complete"] >= 1
    )
    assert metrics["baseline/test/loss"] - found.baseline.mean == 0
    assert metrics["difference"] == pytest.approx(found.finalists[0].mean - found.baseline.mean, abs=1e-12)
    chosen = choose_run.chosen(tracker, None)
    assert chosen.record.run_id == best.run_id and ("nothing is shown to be better" in chosen.says) == (not better)
    says = tracker.artifact(parent.info.run_id, "best.yaml", tmp_path).read_text()
    assert chosen.says in says and "seed:" not in says and "test_samples" not in says
    assert chosen.overrides == found.best.overrides

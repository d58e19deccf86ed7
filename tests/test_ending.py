"""Which trial is taken after the confirmation, whose weights wait for it, what a record may not do."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, create_trial

from denoise.refusal import Refusal
from search import transfer
from search.confirm.result import Arm, Confirmation, Finalist, Settings
from search.ending import winner
from search.mode import Ablation, Joint
from search.record import Record, distinct
from tests.quick import Silent

SEEDS = range(1000, 1005)


def confirmed(*curves: list[float]) -> tuple[list[Record], Confirmation]:
    """The baseline's values over the seeds and each finalist's, nan where it diverged."""
    records = [Record(i, f"run{i}", "complete", 10, [f"activation=a{i}"], 0.5 - 0.01 * i) for i in range(len(curves))]
    arms: list[Arm] = []
    for i, curve in enumerate(curves):
        arm = (Finalist if i else Arm)(f"run{i}", i, f"a{i}", records[i].overrides, 0.5)
        for seed, value in zip(SEEDS, curve, strict=False):
            arm.values[seed] = None if math.isnan(value) else value
            if math.isnan(value):
                arm.failures[seed] = "diverged"
        arms.append(arm)
    finalists = [arm for arm in arms if isinstance(arm, Finalist)]
    for one in finalists:
        both = [(a, b) for a, b in zip(one.numbers(), arms[0].numbers(), strict=False) if math.isfinite(a - b)]
        one.pairs, one.mean_difference = len(both), float(np.mean([a - b for a, b in both])) if both else None
    return records, Confirmation(Settings(2, 5, 1000, 0.95), arms[0], finalists)


@pytest.mark.parametrize(
    ("curves", "number"),
    [
        ([[0.5] * 5, [0.4] * 3, [0.45] * 5], 1),
        ([[0.5] * 5, [0.6] * 5], 0),
        ([[0.5] * 5, [math.nan] * 4 + [0.1]], 0),
        ([[math.nan] * 5, [0.6] * 5, [0.55] * 5], 2),
        ([[math.nan, 0.5, 0.5, 0.5, 0.5], [0.6] * 5], 1),
        ([[math.nan] * 5, [math.nan] * 5], 1),  # nothing ended: the search's own best
    ],
    ids=["the best", "the baseline", "one that diverged", "the baseline diverged", "it did once", "all did"],
)
def test_what_diverged_on_fresh_seeds_is_not_taken(curves: list[list[float]], number: int) -> None:
    records, found = confirmed(*curves)
    top = winner(records, found)
    assert top is not None and top.number == number


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
        with pytest.raises(Refusal, match="would choose code to run"):
            transfer.train(settings, Books(), SimpleNamespace(run_id="run"), [changed], Silent())  # type: ignore[arg-type]
    assert not made.exists()

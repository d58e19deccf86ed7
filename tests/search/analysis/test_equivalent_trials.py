"""Trials whose settings do the same: found by their weights, told, and counted once."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from denoise.config import compose
from denoise.training import diagnostics, train
from denoise.training.callbacks import TrainingMonitor
from search.analysis import equivalent_trials
from search.analysis.verdict import judge
from search.report import leaderboard
from search.report.findings import Findings, files
from search.report.verdict import sentences
from search.tracking.record import Record
from tests import tiny
from tests.process import run
from tests.search.report.test_leaderboard import BASELINE
from tests.search.study.test_loop import TINY
from tests.search.study.test_questions import ARMS, NO_CONFIRM, latest, searched

pytestmark = pytest.mark.filterwarnings("ignore")


def trial(number: int, option: str, weights: str, value: float = 1.0, outcome: str = "complete") -> Record:
    """`weights`: a letter a look, at steps 10, 20 ..."""
    noted = {str(10 * k): letter for k, letter in enumerate(weights, start=1)}
    tags = {"weights_at": json.dumps(noted), "config_sha256": f"{option}"}
    name = option.partition(" ")[0]
    return Record(number, f"{number:x}", outcome, 10 * len(weights), [f"activation={name}"], value, tags=tags)


def found(*records: Record) -> dict[int, tuple[int, int]]:
    """The twins by number: whose, and up to which step."""
    pairs = equivalent_trials.find(records).values()
    return {int(t.trial.number or 0): (int(t.of.number or 0), t.step) for t in pairs}


def test_twins_have_the_same_weights_at_all_steps_that_both_have() -> None:
    assert found(trial(0, "silu", "ab"), trial(1, "relu", "ab")) == {1: (0, 20)}
    assert found(trial(1, "relu", "ab"), trial(0, "silu", "ab")) == {1: (0, 20)}, "in whatever order they are listed"
    assert found(trial(0, "silu", "ab"), trial(1, "relu", "ac")) == {}, "a schedule may act late"
    assert found(trial(0, "silu", "ab"), trial(1, "silu", "ab")) == {}, "a config that is repeated is no other one"
    assert found(trial(0, "silu", "ab"), trial(1, "relu", "a", outcome="pruned")) == {1: (0, 10)}
    assert found(trial(0, "silu", "a", outcome="pruned"), trial(1, "relu", "ab")) == {0: (1, 10)}, (
        "the longer one stays"
    )
    assert found(trial(0, "silu", "ab"), trial(1, "relu", "ac"), trial(2, "gelu", "ac")) == {2: (1, 20)}
    assert found(trial(0, "silu", ""), trial(1, "relu", "")) == {}, "of old runs nothing is noted"


def test_what_is_noted_is_data() -> None:
    for noted in ("", "[]", "3", '{"a": 1}', "{"):
        assert Record(0, "0", "complete", 1, [], tags={"weights_at": noted}).weights_at == {}


def test_a_line_says_which_and_many_are_not_all_said() -> None:
    same = [trial(k, f"option{k}", "ab") for k in range(9)]
    said = equivalent_trials.lines(same)
    assert said[0] == "trial 1 has the same weights as trial 0 after 20 steps: its overrides do not act"
    assert len(said) == 6 and said[5].startswith("3 more trials have the same weights as another one")


def test_an_option_that_is_another_one_is_not_ranked() -> None:
    same = [trial(k, f"option{k}", "ab", 0.5) for k in range(9)]
    (row,) = judge(same, "activation", ["activation=option0"]).rows
    assert (row.option, row.trials, row.values) == ("option0", 1, [0.5])
    assert "option1 is the same (trial 1)" in row.note
    verdict = judge(same, "activation", ["activation=option0"])
    assert sentences(verdict)[0].startswith("activation: every trial was of option0 or the same as one of it")
    assert files(Findings([verdict]))


def test_an_option_is_ranked_by_what_is_its_own() -> None:
    """gelu_sigma at 1 is gelu; at another sigma it is an option."""
    records = [
        trial(0, "gelu", "ab", 0.5),
        trial(1, "gelu_sigma 1", "ab", 0.5),
        trial(2, "gelu_sigma 2", "cd", 0.6),
        trial(3, "gelu_sigma 2.0", "cd", 0.6),
    ]
    rows = {row.option: row for row in judge(records, "activation", ["activation=gelu"]).rows}
    assert rows["gelu"].values == [0.5] and rows["gelu_sigma"].values == [0.6]
    assert "trial 1 with gelu's weights" in rows["gelu_sigma"].note
    assert "trial 3" not in rows["gelu_sigma"].note, "of the option's own nothing is to be said"


def test_the_leaderboard_gives_a_twin_no_place() -> None:
    records = [trial(0, "silu", "ab", 0.5), trial(1, "relu", "ab", 0.5), trial(2, "gelu", "cd", 0.6)]
    written = leaderboard.files(records, BASELINE, "title")
    plain = json.loads(written["leaderboard.json"])
    assert [row["same_weights_as"] for row in plain] == [None, 0, None]
    rows = [line.split("│") for line in written["leaderboard.txt"].decode().splitlines() if "complete" in line]
    assert [row[1].strip() for row in rows] == ["1", "", "2"] and "(trial 0's weights)" in rows[1][3]


def test_a_fingerprint_is_of_the_numbers_and_not_of_their_names() -> None:
    def layer(name: str, value: float = 1.0) -> nn.Module:
        module = nn.Module()
        module.register_parameter(name, nn.Parameter(torch.tensor([value, 2.0])))
        return module

    one = diagnostics.fingerprint(layer("a"))
    assert diagnostics.fingerprint(layer("b")) == one and len(one) == 16
    assert diagnostics.fingerprint(layer("a", 1.0000001)) != one
    assert diagnostics.fingerprint(nn.Linear(2, 3, bias=False)) != diagnostics.fingerprint(nn.Linear(3, 2, bias=False))


def test_few_evaluations_are_noted_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "fingerprint", lambda model: "0")

    class Module:
        trained = None

    def noted(evaluations: int, torn: int = 0) -> list[int]:
        monitor = TrainingMonitor(None, 1, 1, 1.0, None)
        for k in range(1, evaluations + 1):
            monitor.note_weights(10 * k, Module())  # type: ignore[arg-type]
            if k == torn:
                state, monitor = monitor.state_dict(), TrainingMonitor(None, 1, 1, 1.0, None)
                monitor.load_state_dict(state)
        return list(monitor.weights_at)

    assert noted(1) == [10] and noted(3) == [10, 20, 30] and noted(13) == [10, 20, 40, 80, 130]
    assert all(noted(13, torn) == noted(13) for torn in range(1, 13)), "a kill between"


def test_one_step_is_too_early_to_tell() -> None:
    """With last layers at zero the first gradient reaches the network's last layer alone; a look later is right."""

    def weights_at(*overrides: str) -> dict[int, str]:
        short = ["trainer.max_steps=2", "trainer.val_every=1", "data.batch_size=8", *tiny.TINY]
        return train.train(compose.compose([*short, *overrides]).cfg).weights_at

    one, other = weights_at("feed_forward=geglu"), weights_at("feed_forward=swiglu")
    assert list(one) == [1, 2] and one[1] == other[1] and one[2] != other[2]


GELUS = [
    *ARMS,
    "search.kinds.activation=[gelu,gelu_sigma]",
    "activation=gelu",
    "search.per_arm=1",
    "search.min_per_arm=1",
]


@pytest.mark.faults
def test_two_names_of_one_function_are_one_option_also_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "runs"
    store.mkdir()
    killed = "import os, optuna\noptuna.Study.tell = lambda *given, **more: os._exit(9)"  # the study does not know yet
    assert run(["search", f"store={store}", *TINY, NO_CONFIRM, *GELUS], tmp_path / "output", killed) == 9
    searched(store, *GELUS)
    out = " ".join(capsys.readouterr().out.split())
    assert "trial 1 has the same weights as trial 0 after 8 steps: its overrides do not act" in out
    assert "activation: every trial was of gelu or the same as one of it, so there is nothing to compare." in out
    once = latest(store)
    assert [row["same_weights_as"] for row in once.leaderboard] == [None, 0]
    for number, record in once.by_number().items():
        noted = once.study.trials[number].user_attrs["weights_at"]
        assert record.tags["weights_at"] == noted and list(json.loads(noted)) == ["2", "4", "8"]
    searched(store, *GELUS, "search.name=again")
    again = latest(store)
    assert all("duplicate_of" in record.tags for record in again.records)
    assert [row["same_weights_as"] for row in again.leaderboard] == [None, 0], "what is repeated is noted too"

"""The leaderboard: who stands where, how a trial's difference is named, and what is written."""

import json
import math
from dataclasses import replace

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from search.analysis.ranking import best, rank
from search.console.printed_commands import command
from search.report import leaderboard
from search.report.plots import leaderboard as plots
from search.space.option import difference
from search.tracking.record import OUTCOMES, Record
from tests.pictures import HOSTILE, parsed, texts

BASELINE = ["model.width=8", "activation=silu", "optimizer=adamw", "optimizer.lr=0.002", "dropout=0.0"]

values = st.none() | st.floats(allow_nan=True, allow_infinity=True)
records = st.builds(
    Record,
    number=st.none() | st.integers(0, 99),
    run_id=st.text("0123456789abcdef", min_size=1, max_size=6),
    outcome=st.sampled_from(OUTCOMES),
    step=st.integers(0, 400),
    overrides=st.just(BASELINE),
    value=values,
)


def one(number: int, outcome: str = "complete", value: float | None = 0.5, step: int = 8, **more: object) -> Record:
    return Record(number, f"{number:04x}", outcome, step, list(BASELINE), value, **more)  # type: ignore[arg-type]


@given(st.lists(records, max_size=12))
def test_rank_puts_complete_before_pruned_before_failed_before_running(given_records: list[Record]) -> None:
    ranked = rank(given_records)
    places = [OUTCOMES.index(record.outcome) for record in ranked]
    assert places == sorted(places)
    assert sorted(map(id, ranked)) == sorted(map(id, given_records))  # nobody lost, nobody twice


@given(st.lists(records, max_size=12))
def test_rank_orders_complete_trials_by_value_with_nan_and_none_last(given_records: list[Record]) -> None:
    found = [r.value for r in rank(given_records) if r.outcome == "complete"]
    numbers = [value for value in found if value is not None and not math.isnan(value)]
    assert numbers == sorted(numbers)
    finite = [value for value in numbers if value != math.inf]
    assert found[: len(finite)] == finite, "a trial without a value stands above one that has one"


@given(st.lists(records, max_size=12), st.randoms())
def test_rank_does_not_depend_on_the_order_given(given_records: list[Record], random: object) -> None:
    numbered = [replace(record, number=i) for i, record in enumerate(given_records)]
    shuffled = list(numbered)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [r.number for r in rank(shuffled)] == [r.number for r in rank(numbered)]


def test_rank_puts_trials_that_were_pruned_later_first() -> None:
    early, late = one(1, "pruned", 0.1, step=2), one(2, "pruned", 0.9, step=4)
    assert rank([early, late]) == [late, early]


@given(st.lists(records, max_size=12))
@example([Record(0, "0", "complete", 8, BASELINE, math.nan)])
@example([Record(0, "0", "complete", 8, BASELINE, math.nan), Record(1, "1", "complete", 8, BASELINE, math.inf)])
def test_best_is_the_lowest_number_of_a_complete_trial(given_records: list[Record]) -> None:
    found = best(given_records)
    legal = [
        r.value for r in given_records if r.outcome == "complete" and r.value is not None and not math.isnan(r.value)
    ]
    if legal:
        assert found is not None and found.value == min(legal)
    else:
        assert found is None, f"the best of no measured trial is {found}"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "baseline"),
        ({"activation": "gelu"}, "gelu"),
        ({"optimizer": "lion", "optimizer.lr": "0.0012345"}, "lion lr 0.00123"),
        ({"optimizer.lr": "0.004"}, "adamw lr 0.004"),
        ({"activation": "none"}, "no activation"),
        ({"dropout": "0.25"}, "dropout 0.25"),
        (
            {"activation": "swish", "activation.beta": "1.5", "optimizer.lr": "0.01"},
            "swish beta 1.5, adamw lr 0.01",
        ),
    ],
)
def test_difference_names_what_differs(changes: dict[str, str], name: str) -> None:
    theirs = dict(text.split("=") for text in BASELINE) | changes
    assert difference([f"{key}={value}" for key, value in theirs.items()], BASELINE) == name


def test_difference_does_not_depend_on_the_order_of_the_overrides() -> None:
    assert difference(BASELINE[::-1], BASELINE) == "baseline"


def test_leaderboard_numbers_only_complete_trials_and_says_where_the_others_ended() -> None:
    trials = [
        one(0, value=0.5),
        one(1, "pruned", 0.7, step=2),
        one(2, "failed", None, step=3, tags={"failure_kind": "diverged"}),
        one(3, value=0.25),
    ]
    files = leaderboard.files(trials, BASELINE, "a title")
    text = files["leaderboard.txt"].decode()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert [row[:2] for row in rows] == [["1", "3"], ["2", "0"], ["", "1"], ["", "2"]]
    assert [row[3] for row in rows] == ["0.2500", "0.5000", "0.7000", "-"]
    assert [row[5] for row in rows] == ["complete", "complete", "pruned at 2", "diverged at 3"]
    assert "a title" in text
    plain = json.loads(files["leaderboard.json"])
    assert [row["trial"] for row in plain] == [3, 0, 1, 2]
    assert plain[0]["overrides"] == BASELINE and plain[0]["val/loss"] == 0.25
    assert "a title" in texts(parsed(files["leaderboard.svg"]))


@pytest.mark.parametrize("value", [1 / 3, 5e-324, 1.7976931348623157e308, 0.1 + 0.2])
def test_leaderboard_json_keeps_a_value_to_the_last_bit(value: float) -> None:
    (row,) = json.loads(leaderboard.files([one(0, value=value)], BASELINE, "t")["leaderboard.json"])
    assert row["val/loss"] == value


def test_leaderboard_shows_names_with_brackets_as_they_are() -> None:
    """An override such as betas=[0.9,0.99] is no markup of the table."""
    trial = Record(1, "1", "complete", 8, [*BASELINE, "optimizer.betas=[0.8,0.9]", "model.levels=[red]"], 0.5)
    text = leaderboard.files([trial], BASELINE, "t")["leaderboard.txt"].decode()
    assert "[0.8,0.9]" in "".join(text.split()) and "[red]" in "".join(text.split())


def test_best_yaml_is_a_config_on_top_of_train() -> None:
    content = leaderboard.best_yaml(one(3).overrides, leaderboard.says(one(3, value=0.25), "name-1"), "run").decode()
    config = yaml.safe_load(content)
    assert config["defaults"] == ["train", {"override /activation": "silu"}, {"override /optimizer": "adamw"}, "_self_"]
    assert config["optimizer"] == {"lr": 0.002} and config["model"] == {"width": 8} and config["dropout"] == 0.0
    assert "trial 3 of name-1: val/loss 0.250000, one seed, not confirmed" in content.splitlines()[0]


def test_command_says_plain_overrides_plainly() -> None:
    assert command(["activation=silu", "a.b=[0.9,0.99]"]) == 'make train ARGS="activation=silu a.b=[0.9,0.99]"'


def test_a_leaderboard_is_drawn_whatever_its_names_and_values() -> None:
    odd = [1e308, -1e308, 5e-324, math.nan, math.inf, None]
    records = [one(i, value=value) for i, value in enumerate([0.5, *odd])] + [one(9, outcome="running")]
    lines = [replace(line, differs=HOSTILE, outcome=HOSTILE) for line in leaderboard.lines(records, BASELINE)]
    content = plots.picture(lines, HOSTILE)
    assert content == plots.picture(lines, HOSTILE) and plots.picture([], "")
    assert texts(parsed(content)).count("<script>alert(1)</script> & $x^2$ $") == 1 + len(lines)
    many = leaderboard.lines([one(i, value=0.5 + i) for i in range(plots.MOST + 7)], BASELINE)
    assert "7 more in leaderboard.txt" in texts(parsed(plots.picture(many, "t")))


def test_a_leaderboard_shows_all_but_what_is_far_worse() -> None:
    low, high = plots.window([0.5, 0.4, 0.6, 0.45, 1e9, None, math.nan])
    assert low < 0.4 and 0.6 < high < 1 and plots.window([None]) == (0, 1)


def test_summary_compares_the_best_with_the_baseline() -> None:
    better = Record(4, "4", "complete", 8, ["activation=gelu", *BASELINE[2:]], 0.4)
    line = leaderboard.summary([one(0, value=0.5), better], BASELINE)
    assert "trial 4" in line and "0.4000" in line and "baseline 0.5000" in line and "-20.0%" in line


def test_summary_of_no_complete_trial_says_what_to_raise() -> None:
    line = leaderboard.summary([one(0, "failed", None)], BASELINE)
    assert "search.n_trials" in line and "trainer.max_steps" in line

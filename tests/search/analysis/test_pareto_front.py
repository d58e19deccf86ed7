"""The front of quality against a cost, against its definition."""

from io import StringIO

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from search.analysis.pareto_front import Front, find, spread
from search.report import pareto_front
from search.tracking.record import Record
from tests.pictures import parsed, texts

COST = "cost/parameters"
BASE = ["activation=silu"]
POINTS = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), max_size=20)


def record(number: int, cost: float, value: float | None, outcome: str = "complete") -> Record:
    overrides = BASE if number == 0 else [f"activation=silu{number}"]
    return Record(number, f"run{number}", outcome, 10, overrides, value, metrics={COST: cost})


def found(points: list[tuple[int, int]]) -> Front:
    return find([record(i, cost, value) for i, (cost, value) in enumerate(points)], COST, BASE)


def dominated(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return other != one and other[0] <= one[0] and other[1] <= one[1]


@given(POINTS)
def test_the_front_is_what_none_is_better_than_at_its_cost(points: list[tuple[int, int]]) -> None:
    best = {(one.metrics[COST], one.value) for one in found(points).best}
    assert best == {p for p in points if not any(dominated(p, q) for q in points)}
    assert len(found(points).all) == len(points)


@given(POINTS)
def test_what_is_confirmed_spans_the_front(points: list[tuple[int, int]]) -> None:
    line = found(points)
    order = spread(line)
    assert sorted(one.run_id for one in order) == sorted(one.run_id for one in line.best)
    if not points:
        return
    good = [one for one in line.best if one.value <= points[0][1]]
    assert order[0] is good[-1]
    if len(good) > 1:
        assert order[1] is good[0]


def test_the_middle_is_confirmed_before_what_lies_beside_the_ends() -> None:
    line = found([(9, 9), (1, 8), (2, 7), (3, 6), (4, 5), (5, 4)])
    assert [one.number for one in spread(line)] == [5, 1, 3, 2, 4]


def test_what_did_not_come_to_its_end_is_on_no_front() -> None:
    records = [record(0, 5, 5.0), record(1, 1, 1.0, "pruned"), record(2, 1, None, "failed")]
    assert [one.number for one in find(records, COST, BASE).all] == [0]


@given(POINTS)
@settings(max_examples=8, deadline=None)
@example([])
@example([(1, 1)])
def test_any_front_is_drawn_and_said(points: list[tuple[int, int]]) -> None:
    line = found(points)
    written = texts(parsed(pareto_front.picture(line))).splitlines()
    assert all(str(one.number) in written for one in (*line.best, line.baseline) if one is not None)
    for one in (*line.best, line.baseline) if line.best else ():
        (left, right), (low, high) = pareto_front.window(line)
        assert left < one.metrics[COST] < right and low < one.value < high
    console = Console(file=StringIO(), width=140)
    console.print(pareto_front.table(line, BASE))
    assert len(pareto_front.sentences(line)) == 1


@pytest.mark.parametrize(
    "points, said",
    [
        (
            [(2, 2), (1, 3)],
            "2 of 2 complete trials are on the front: none is better at their cost. The baseline is one",
        ),
        ([(2, 2), (1, 1), (3, 0)], "no worse and no dearer than it is trial 1 (one seed each)"),
    ],
)
def test_where_the_baseline_stands_is_said(points: list[tuple[int, int]], said: str) -> None:
    assert said in pareto_front.sentences(found(points))[0]


@pytest.mark.parametrize(
    "value, said",
    [(0.0123, "12.3 m"), (1_250_000, "1.25 M"), (3.2e9, "3.2 G"), (7, "7"), (4.5e-5, "45 µ"), (0.0, "0")],
)
def test_a_cost_is_shown_in_three_digits(value: float, said: str) -> None:
    assert pareto_front.amount(value) == said
    assert pareto_front.amount(value, "s") == (said if said[-1].isalpha() else f"{said} ") + "s"

"""Several searchers replayed: one alone is the replay's own search, more take less time and never know more."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.search_evidence import beside, replay
from experiments.search_evidence.strategies import STRATEGIES, groups_of
from tests.experiments.test_replay import make


def test_one_searcher_with_a_lag_of_one_is_the_replayed_search() -> None:
    pool = make(120)
    groups = groups_of(pool)
    for number in range(6):
        time, compute, trials, waited = beside.search(pool, groups, 1, 1, number)
        assert time == compute and waited == 0
        assert trials == replay.repeat(pool, STRATEGIES["funnel"], groups, number)[3]


def test_more_searchers_take_less_time_and_a_short_lag_makes_them_wait() -> None:
    pool = make(120)
    groups = groups_of(pool)

    def mean(searchers: int, lag: int) -> dict[str, float]:
        found = np.mean([beside.search(pool, groups, searchers, lag, number) for number in range(20)], axis=0)
        return dict(zip(beside.FOUND, found, strict=True))

    alone, short, long = mean(1, 1), mean(3, 3), mean(3, 9)
    assert long["time"] < alone["time"] and long["waited"] < short["waited"]
    assert long["compute"] / 3 <= long["time"] + 1e-9, "three cannot do more than three times as much"


@pytest.mark.parametrize("value", ["2", "2x", "2x0", "2x6x1", "", "axb"])
def test_a_division_that_cannot_be_read_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert beside.main([f"divisions={value}"]) == 2
    assert "2x6" in capsys.readouterr().err


def test_the_time_of_two_has_the_slowdown_in_it_and_that_of_four_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    trials = {"ours": [30.0, 33.0], "alone": [20.0, 22.0]}
    raw = {name: [{"trials": [{"training_seconds": x} for x in seconds]}] for name, seconds in trials.items()}
    path.write_text(json.dumps({"raw": {"cd": raw}}))
    assert beside.slowdown(path) == pytest.approx(1.5)
    assert 1 < beside.slowdown() < 2.5, "of the bench's last run"
    rows = {(1, 1): np.full((5, 4), [8.0, 8, 9, 0]), (2, 6): np.full((5, 4), [5.0, 9, 9, 1])}
    said = beside.markdown(rows | {(4, 12): np.full((5, 4), [3.0, 9, 9, 1])}, 1.5).splitlines()
    assert "slowdown of 1.50" in said[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in said[2:]]
    assert [row[4] for row in cells] == ["8.0", "7.5", "not measured"]
    assert [row[5] for row in cells] == ["1.00 (1.00 to 1.00)", "0.94 (0.94 to 0.94)", "not measured"]

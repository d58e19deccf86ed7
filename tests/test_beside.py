"""Several searchers replayed: one alone is the replay's own search, more take less time and never know more."""

import numpy as np
import pytest

from benchmarks.evidence import beside, replay
from benchmarks.evidence.strategies import STRATEGIES, groups_of
from tests.test_replay import make


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

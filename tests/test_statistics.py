"""The verdicts over few seeds: against scipy's own tests, against simulation, and in every corner."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.simulation import Scenario, confirmed
from search.confirm.statistics import (
    BETTER,
    FIRST_LOOK,
    OPEN,
    WORSE,
    Rule,
    bootstrap_interval,
    course,
    diverged,
    nominal_levels,
    paired,
    pooled_sd,
    spent,
    t_interval,
)

VALUES = st.floats(-10, 10).map(lambda x: round(x, 4))


def test_the_t_interval_is_that_of_the_paired_t_test() -> None:
    x, y = [0.31, 0.29, 0.33, 0.30], [0.35, 0.30, 0.38, 0.31]
    expected = stats.ttest_rel(x, y).confidence_interval(0.975)
    assert t_interval(paired(x, y), 0.975) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("seeds", [3, 4, 5, 8])
@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.01])
def test_equal_arms_cross_at_any_look_as_often_as_is_spent(seeds: int, alpha: float) -> None:
    """Other draws, and scipy's t test in the place of ours."""
    levels = nominal_levels(seeds, alpha)
    assert list(levels) == list(range(FIRST_LOOK, seeds + 1))
    x = np.random.default_rng(1).standard_normal((200_000, seeds))
    crossed = np.zeros(len(x), dtype=bool)
    for n, level in levels.items():
        crossed |= stats.ttest_1samp(x[:, :n], 0.0, axis=1).pvalue < level
        expected = spent(alpha, n / seeds)
        assert crossed.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / len(x)))


def test_looks_become_easier_and_cost_little_at_the_end() -> None:
    levels = list(nominal_levels(5, 0.05).values())
    assert all(a < b for a, b in pairwise(levels)) and 0.6 * 0.05 < levels[-1] < 0.05
    assert nominal_levels(3, 0.05) == {3: pytest.approx(0.05)}, "one look has it all"


def test_the_interval_covers_at_all_looks_at_once() -> None:
    rule, rng, missed = Rule(1, 5, 0.9), np.random.default_rng(2), 0
    for d in rng.normal(0.7, 1.0, (2000, 5)):
        found = [rule.interval(d[:n]) for n in range(FIRST_LOOK, 6)]
        missed += any(i is not None and not i[0] <= 0.7 <= i[1] for i in found)
    assert 0.07 < missed / 2000 < 0.13


def test_the_bootstrap_is_inside_its_data_and_repeats_itself() -> None:
    d = [0.01, 0.02, 0.05]
    low, high = bootstrap_interval(d, 0.95)
    assert min(d) - 1e-9 < low < high < max(d) + 1e-9 and (low, high) == bootstrap_interval(d, 0.95)
    assert bootstrap_interval([0.5, 0.5, 0.5], 0.95) == (0.5, 0.5)


def test_the_bootstrap_is_too_narrow_at_five_seeds_and_t_is_not() -> None:
    rng, by_t, by_bootstrap = np.random.default_rng(3), 0, 0
    for d in rng.standard_normal((300, 5)):
        low, high = t_interval(d, 0.95)
        by_t += low <= 0 <= high
        low, high = bootstrap_interval(d, 0.95)
        by_bootstrap += low <= 0 <= high
    assert by_t / 300 > 0.91 and by_bootstrap / 300 < 0.90


def test_the_pooled_sd_is_the_residual_of_an_analysis_of_variance() -> None:
    groups = [[1.0, 2.0, 4.0], [2.0, 2.5, 2.0, 3.0], [5.0], [1.0, math.inf, math.nan]]
    sd, df = pooled_sd(groups)
    residual = sum(sum((v - np.mean(g)) ** 2 for v in g) for g in groups[:2])
    assert df == 5 and sd == pytest.approx(math.sqrt(residual / 5))
    assert pooled_sd([[1.0], []]) == (None, 0)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_verdict_says_what_its_interval_says(pairs: list[tuple[float, float]]) -> None:
    values, baseline = [p[0] for p in pairs], [p[1] for p in pairs]
    rule = Rule(2, 6, 0.95)
    low, high = rule.interval(paired(values, baseline)) or (math.nan, math.nan)
    assert rule.verdict(values, baseline) == (BETTER if high < 0 else WORSE if low > 0 else OPEN)
    mirrored = {BETTER: WORSE, WORSE: BETTER, OPEN: OPEN}[rule.verdict(values, baseline)]
    assert rule.verdict(baseline, values) == mirrored


def test_divergence_is_worse_and_a_baseline_that_diverges_makes_nobody_better() -> None:
    rule, steady = Rule(1, 5, 0.95), [1.0, 1.1, 0.9, 1.0, 1.05]
    much_better = [v - 0.5 for v in steady]
    assert rule.verdict(much_better, steady) == BETTER
    assert rule.verdict([math.inf, *much_better[1:]], steady) == WORSE
    assert diverged([math.inf, 1.0], steady) == 1
    assert rule.verdict(much_better, [math.inf] * 3 + steady[3:]) == OPEN
    assert diverged([math.inf] * 5, [math.inf] * 5) == 0 and rule.verdict([math.inf] * 5, [math.inf] * 5) == OPEN
    assert rule.verdict([math.nan] * 3 + much_better[3:], steady) == OPEN, "two pairs are too few"


def test_seeds_are_trained_in_pairs_and_a_clear_case_ends_early() -> None:
    jitter = [0.0, 0.01, -0.01, 0.005, 0.0]
    worth = {0: 1.0, 1: -5.0, 2: 1.0}
    asked: list[tuple[int, int]] = []

    def train(wanted: Sequence[tuple[int, int]]) -> list[float]:
        asked.extend((seed, arm) for arm, seed in wanted)
        return [worth[arm] + jitter[(seed + arm) % 5] for arm, seed in wanted]

    values = course(Rule(2, 5, 0.95), range(5), train)
    assert [len(v) for v in values] == [5, 3, 5]
    assert asked == [(s, a) for s in range(5) for a in (0, 1, 2) if not (a == 1 and s >= 3)]
    asked.clear()
    worth[2] = 7.0
    assert [len(v) for v in course(Rule(2, 5, 0.95), range(5), train)] == [3, 3, 3], "nobody is left to go on for"


@pytest.mark.parametrize("finalists", [1, 2, 5])
def test_equal_arms_are_called_better_in_at_most_one_search_in_twenty(finalists: int) -> None:
    found = confirmed(Scenario(finalists=finalists), searches=1000, seed=4)
    assert found["false_alarms"] <= 50


def test_a_large_difference_is_found() -> None:
    found = confirmed(Scenario(finalists=2, advantage=4.0), searches=200, seed=5)
    assert found["chosen"] > 180 and found["found"] / found["chosen"] > 0.9 and found["trainings"] < 15

"""The verdicts over few seeds: against scipy's own tests, against simulation, and in every corner."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.simulation import Scenario, confirmed
from search.analysis.sequential_test import (
    BETTER,
    FIRST_LOOK,
    OPEN,
    WORSE,
    SequentialTest,
    alpha_spent,
    differences,
    divergences,
    images_error,
    mean_interval,
    nominal_levels,
    paired,
    pooled_sd,
    run_sequential,
)

VALUES = st.floats(-10, 10).map(lambda x: round(x, 4))


def test_the_t_interval_is_that_of_the_paired_t_test() -> None:
    x, y = [0.31, 0.29, 0.33, 0.30], [0.35, 0.30, 0.38, 0.31]
    expected = stats.ttest_rel(x, y).confidence_interval(0.975)
    assert mean_interval(differences(x, y), 0.025) == pytest.approx((expected.low, expected.high))


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
        expected = alpha_spent(alpha, n / seeds)
        assert crossed.mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / len(x)))


def test_looks_become_easier_and_cost_little_at_the_end() -> None:
    levels = list(nominal_levels(5, 0.05).values())
    assert all(a < b for a, b in pairwise(levels)) and 0.6 * 0.05 < levels[-1] < 0.05
    assert nominal_levels(3, 0.05) == {3: pytest.approx(0.05)}, "one look has it all"


def test_the_interval_covers_at_all_looks_at_once() -> None:
    rule, rng, missed = SequentialTest(1, 5, 0.9), np.random.default_rng(2), 0
    for d in rng.normal(0.7, 1.0, (2000, 5)):
        found = [rule.interval(d[:n]) for n in range(FIRST_LOOK, 6)]
        missed += any(i is not None and not i[0] <= 0.7 <= i[1] for i in found)
    assert 0.07 < missed / 2000 < 0.13


def test_the_images_half_width_is_added_as_a_square() -> None:
    d = [0.01, 0.02, 0.05]
    low, high = mean_interval(d, 0.05)
    wide = mean_interval(d, 0.05, images=0.01)
    assert sum(wide) == pytest.approx(low + high)
    assert (wide[1] - wide[0]) ** 2 == pytest.approx((high - low) ** 2 + (2 * stats.norm.isf(0.025) * 0.01) ** 2)
    assert mean_interval([0.5] * 3, 0.05) == (0.5, 0.5)


@pytest.mark.parametrize(("images", "each"), [(40, 1), (40, 3), (300, 2)])
def test_the_images_error_is_that_of_other_images_at_the_same_noise(images: int, each: int) -> None:
    """Against many sets of images: what each does to a difference, beside a trend over the noise that all share."""
    rng, m = np.random.default_rng(images + each), images * each
    trend = np.linspace(-3, 3, m) ** 3 / 10
    means, errors = [], []
    for _ in range(400):
        order = rng.permutation(m) % images
        losses = trend + rng.standard_normal(images)[order] + 0.5 * rng.standard_normal(m)
        means.append(losses.mean())
        errors.append(images_error(losses, order) ** 2)
    assert math.sqrt(np.mean(errors)) == pytest.approx(np.std(means), rel=0.12)
    assert images_error(np.ones(20), np.arange(20)) == 0
    assert images_error(np.arange(20.0), np.zeros(20, dtype=np.int64)) == math.inf, "one image says nothing of others"


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
    rule = SequentialTest(2, 6, 0.95)
    low, high = rule.interval(differences(values, baseline)) or (math.nan, math.nan)
    assert rule.verdict(values, baseline) == (BETTER if high < 0 else WORSE if low > 0 else OPEN)
    mirrored = {BETTER: WORSE, WORSE: BETTER, OPEN: OPEN}[rule.verdict(values, baseline)]
    assert rule.verdict(baseline, values) == mirrored


def test_divergence_is_counted_apart_and_judged_by_an_exact_test() -> None:
    rule, steady, inf = SequentialTest(1, 5, 0.95), [1.0, 1.1, 0.9, 1.0, 1.05], math.inf
    much_better = [v - 0.5 + 0.01 * (i % 2) for i, v in enumerate(steady)]
    assert rule.final(much_better, steady) == BETTER
    once = [inf, *much_better[1:]]
    assert rule.final(once, steady) == BETTER and divergences(once, steady)[:2] == (1, 0), "said beside the verdict"
    for bad in range(6):
        values = [inf] * bad + steady[bad:]
        mine, theirs, both, p = divergences(values, steady)
        expected = stats.fisher_exact([[bad, 5 - bad], [0, 5]]).pvalue
        assert (mine, theirs, both) == (bad, 0, 5) and p == pytest.approx(expected)
        assert rule.diverges(values, steady) == (WORSE if expected <= 0.05 else OPEN)
        assert rule.diverges(steady, values) == (BETTER if expected <= 0.05 else OPEN)
    assert rule.final([inf] * 5, steady) == WORSE and rule.final(steady, [inf] * 5) == BETTER
    assert rule.final([inf] * 5, [inf] * 5) == OPEN and divergences([inf] * 5, [inf] * 5) == (5, 5, 5, 1.0)
    assert rule.verdict(much_better, [inf] * 3 + steady[3:]) == OPEN, "two pairs are too few"
    assert divergences([inf, math.nan, 1.0], [1.0, inf, math.nan])[:3] == (1, 0, 1), "no outcome, no count"
    assert paired([1.0, inf, math.nan], [2.0, 1.0, 1.0]) == [(1.0, 2.0)]


def test_power_is_that_of_the_last_look() -> None:
    rule, rng = SequentialTest(2, 5, 0.95), np.random.default_rng(7)
    d = rng.standard_normal((40_000, 5)) - 2.0
    shown = stats.ttest_1samp(d, 0.0, axis=1, alternative="less").pvalue < rule.levels[5] / 2
    assert rule.power(2.0) == pytest.approx(shown.mean(), abs=0.012)
    exact = stats.nct.sf(stats.t.isf(rule.levels[5] / 2, 4), 4, 2.0 * math.sqrt(5))
    assert rule.power(2.0) == pytest.approx(float(exact), abs=0.012) and rule.power(0.0) < 0.02
    assert rule.power(2.0, images=0.6) < rule.power(2.0, images=0.3) < rule.power(2.0)


def test_seeds_are_trained_in_pairs_and_a_clear_case_ends_early() -> None:
    jitter = [0.0, 0.01, -0.01, 0.005, 0.0]
    worth = {0: 1.0, 1: -5.0, 2: 1.0}
    rule = SequentialTest(2, 5, 0.95)

    def run() -> tuple[list[list[float]], list[tuple[int, int]]]:
        values: list[list[float]] = [[], [], []]
        asked: list[tuple[int, int]] = []

        def train(wanted: Sequence[tuple[int, int]]) -> None:
            for arm, seed in wanted:
                asked.append((seed, arm))
                values[arm].append(worth[arm] + jitter[(seed + arm) % 5])

        run_sequential(range(5), [0], [1, 2], train, lambda arm: rule.verdict(values[arm], values[0]) != OPEN)
        return values, asked

    values, asked = run()
    assert [len(v) for v in values] == [5, 3, 5]
    assert asked == [(s, a) for s in range(5) for a in (0, 1, 2) if not (a == 1 and s >= 3)]
    worth[2] = 7.0
    assert [len(v) for v in run()[0]] == [3, 3, 3], "nobody is left to go on for"


NULL = {
    "one finalist": Scenario(finalists=1),
    "five finalists": Scenario(finalists=5),
    "heavy tails": Scenario(noise="heavy"),
    "unequal spreads": Scenario(noise="spreads"),
    "rare bad seeds in finalists only": Scenario(noise="bad"),
    "skewed finalists": Scenario(noise="skewed_finalists"),
    "7 % diverge in every arm": Scenario(diverging=0.07),
    "a config-by-set offset of 0.1": Scenario(offset=0.1, trials=200),
    "a config-by-set offset of 0.3": Scenario(offset=0.3, trials=200),
}


@pytest.mark.parametrize("name", NULL)
def test_a_search_of_equals_says_better_or_worse_in_at_most_one_of_twenty(name: str) -> None:
    found = confirmed(NULL[name], searches=2000, seed=4)
    assert found["false_better"] <= 100 and found["false_worse"] <= 100


def test_a_large_difference_is_found() -> None:
    found = confirmed(Scenario(finalists=2, advantage=4.0), searches=200, seed=5)
    assert found["chosen"] > 180 and found["found"] / found["chosen"] > 0.9 and found["trainings"] < 15

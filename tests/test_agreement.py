"""Rank correlation of rungs with the end, and of widths: against scipy, by simulation, and what is said."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from search.agreement import FEW, Agreement, compare, rungs, sentences, spearman, table, transfer, width_sentence
from search.record import Record

Curves = dict[int, dict[int, float]]


def curves(count: int, noise: float, survive: int | None = None, seed: int = 0) -> Curves:
    """Trials that report at 10, 20 and 40 steps; the best `survive` at each of the first two go on."""
    draw = np.random.default_rng(seed)
    true = draw.normal(size=count)
    found: Curves = {i: {} for i in range(count)}
    for step in (10, 20, 40):
        alive = sorted((found[i].get(step // 2, 0.0), i) for i in found if step == 10 or step // 2 in found[i])
        for _, i in alive[: survive if step > 10 else None]:
            found[i][step] = float(true[i] + noise * draw.normal() * (step < 40))
    return found


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_spearman_is_scipys_with_ties(pairs: list[tuple[int, int]]) -> None:
    x = np.array(pairs, dtype=float)
    found = float(spearman(x[None])[0])
    if len(set(x[:, 0])) == 1 or len(set(x[:, 1])) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(float(stats.spearmanr(x).statistic), abs=1e-12)


@pytest.mark.parametrize("rho", [0.3, 0.8])
def test_the_interval_holds_the_true_correlation_about_as_often_as_it_says(rho: float) -> None:
    draw, inside = np.random.default_rng(0), 0
    true = 6 / math.pi * math.asin(rho / 2)  # of ranks of a bivariate normal
    for i in range(150):
        pairs = draw.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 25)
        found = compare([(float(a), float(b)) for a, b in pairs], "a", "b", 25, seed=i)
        assert found.low is not None and found.high is not None
        inside += found.low <= true <= found.high
    assert 0.88 <= inside / 150 <= 0.99


def test_rungs_compare_each_step_with_the_last_over_the_trials_that_have_both() -> None:
    found = rungs(curves(40, 0.1, survive=20))
    assert [(each.cheap, each.full, each.seen, each.pairs) for each in found] == [
        ("step 10", "step 40", 40, 20),
        ("step 20", "step 40", 20, 20),
    ]
    assert all(each.answer == "can be" for each in found)


@pytest.mark.parametrize(
    ("given_curves", "answer"),
    [
        (curves(40, 0.1), "can be trusted here, from step 10"),
        (curves(200, 30.0), "cannot be trusted here at step 10"),
        (curves(FEW - 1, 0.1), "too few trials to say"),
        (curves(12, 1.0), "too few trials to say"),
    ],
)
def test_the_last_sentence_says_whether_early_stopping_can_be_trusted(given_curves: Curves, answer: str) -> None:
    last = sentences(rungs(given_curves))[-1]
    assert answer in last and "rank correlation" in last and last.endswith(".")


def test_a_later_rung_that_can_be_trusted_is_named() -> None:
    early, late = curves(200, 30.0), curves(200, 0.1)
    mixed = {i: {5: early[i][10], **late[i]} for i in early}
    assert "From step 10 on it can be" in sentences(rungs(mixed))[-1]


def test_what_pruning_leaves_out_is_said() -> None:
    said = sentences(rungs(curves(40, 0.5, survive=20)))
    assert said[0].startswith("20 of the 40 trials at step 10 did not come to step 40")
    assert len(sentences(rungs(curves(40, 0.5)))) == 1


@pytest.mark.parametrize("given_curves", [{}, {0: {10: 1.0}}, {0: {10: 1.0, 20: 2.0}, 1: {10: 1.0, 20: 2.0}}])
def test_little_is_no_error(given_curves: Curves) -> None:
    assert sentences(rungs(given_curves)) and table(rungs(given_curves)) is not None


@given(st.dictionaries(st.integers(0, 20), st.dictionaries(st.sampled_from([1, 2, 4]), st.floats()), max_size=15))
@settings(max_examples=30, deadline=None)
def test_any_curves_have_an_answer(given_curves: Curves) -> None:
    found = rungs(given_curves)
    assert sentences(found)
    for each in found:
        assert each.pairs <= each.seen and (each.correlation is None or -1 - 1e-9 <= each.correlation <= 1 + 1e-9)


def test_widths_are_compared_over_the_same_configs() -> None:
    def record(width: int, lr: float, value: float, outcome: str = "complete") -> Record:
        return Record(0, "0", outcome, 9, [f"model.width={width}", f"optimizer.lr={lr}"], value)

    small = [record(8, 0.1 * i, float(i)) for i in range(15)]
    large = [record(16, 0.1 * i, float(i) ** 2) for i in range(12)] + [record(16, 1.4, 0.0, "pruned")]
    found = transfer(small, large)
    assert (found.cheap, found.full) == ("model.width=8", "model.width=16")
    assert (found.seen, found.pairs) == (15, 12) and found.correlation == pytest.approx(1)
    assert "model.width=8 holds at model.width=16" in width_sentence(found)


def test_answers_go_by_the_interval_and_not_by_the_estimate() -> None:
    assert Agreement("a", "b", 9, 9, 0.9, 0.2, 0.97).answer == "too few trials to say"
    assert Agreement("a", "b", 9, 9, 0.6, 0.5, 0.7).answer == "can be"
    assert Agreement("a", "b", 9, 9, 0.1, -0.3, 0.49).answer == "cannot"

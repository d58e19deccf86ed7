"""Rank correlation of rungs with the end, and of widths: against scipy, by simulation, and what is said."""

import math
from collections import Counter

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from optuna.trial import TrialState
from scipy import stats

from denoise.config.compose import compose
from search.analysis.rank_correlation import (
    CASES,
    FEW,
    WIDTH,
    Agreement,
    compare,
    goes_on,
    keeps,
    needed,
    rungs,
    spearman,
    transfer,
)
from search.pruners.funnel import FunnelPruner
from search.report.rank_correlation import sentences, table, width_sentence
from search.tracking.record import Record

optuna.logging.set_verbosity(optuna.logging.ERROR)
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
        (curves(40, 0.1), "can be trusted here at step 10"),
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
    assert Agreement("a", "b", 9, 9, 0.6, 0.52, 0.7).answer == "can be"
    assert Agreement("a", "b", 9, 9, 0.6, 0.52, 0.7, 0.25).answer == "cannot"
    assert Agreement("a", "b", 9, 9, 0.6, 0.52, 0.79, 0.25).answer == "too few trials to say"
    assert Agreement("a", "b", 9, 9, 0.1, -0.3, 0.2, 1).answer == "nothing is stopped"
    assert Agreement("a", "b", 9, 9, 0.1, -0.3, 0.49).answer == "cannot"


@pytest.mark.parametrize("kept", [0.1, 0.2, 0.25, 1 / 3, 0.5, 2 / 3])
def test_the_correlation_that_a_look_takes_is_that_of_a_simulation(kept: float) -> None:
    """Of 400,000 normal pairs with that rank correlation the best `kept` by x hold 6 of 7 of the best tenth by y."""
    draw, rho = np.random.default_rng(0), needed(kept)
    y, noise = draw.normal(size=(2, 400_000))
    r = 2 * math.sin(math.pi * rho / 6)
    x = r * y + math.sqrt(1 - r * r) * noise
    assert stats.spearmanr(x[:50_000], y[:50_000]).statistic == pytest.approx(rho, abs=0.01)
    best = y <= np.quantile(y, 0.1)
    assert (x[best] <= np.quantile(x, kept)).mean() == pytest.approx(CASES[0] / CASES[1], abs=0.006)


def test_the_more_go_on_the_less_it_takes_and_too_few_can_never_do() -> None:
    shares = [0.09, 0.1, 0.25, 0.5, 0.75, 0.95]
    assert [needed(a) > needed(b) for a, b in zip(shares, shares[1:], strict=False)] == [True] * 5
    assert needed(0.05) == math.inf and needed(1.0) == -1 and needed(0.999) == -1
    assert keeps(0.0, 0.3) == pytest.approx(0.3) and keeps(0.9999, 0.1) > 0.98


def test_a_width_holds_from_where_two_configs_of_three_pairs_are_in_the_same_order() -> None:
    draw, r = np.random.default_rng(0), 2 * math.sin(math.pi * WIDTH / 6)
    a, b = draw.multivariate_normal([0, 0], [[1, r], [r, 1]], (2, 100_000))
    assert ((a[:, 0] < b[:, 0]) == (a[:, 1] < b[:, 1])).mean() == pytest.approx(2 / 3, abs=0.01)
    said = width_sentence(Agreement("width 8", "width 16", 20, 20, 0.1, -0.3, 0.4))
    assert said.startswith("What is found at width 8 does not hold at width 16, where the better one of two configs")
    assert "fewer than 2 of 3 cases" in said and "tenth" not in said


STEPS = [40, 80, 120, 160, 300]


def config(name: str, *more: str) -> DictConfig:
    typed = [f"pruner={name}", "trainer.val_every=40", "trainer.max_steps=300", *more]
    return DictConfig(compose(typed, "search").cfg.pruner)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("funnel", [1 / 4, 1 / 2, 2 / 3, 3 / 4]),
        ("funnel pruner.first=100 pruner.share=0.5", [1, 1, 0.5 * 100 / 120, 3 / 4]),
        ("successive_halving", [1 / 2, 1 / 2, 1, 1 / 2]),
        ("successive_halving pruner.min_resource=20 pruner.reduction_factor=4", [1 / 4, 1 / 4, 1, 1]),
        ("successive_halving pruner.min_resource=10 pruner.reduction_factor=2", [1 / 8, 1 / 2, 1, 1 / 2]),
        ("hyperband", [1 / 3, 1, 1 / 3, 1]),
        ("median", [1 / 2] * 4),
        ("none", [1] * 4),
        ("wilcoxon", [None] * 4),
    ],
)
def test_what_goes_on_at_a_look_is_what_the_pruner_lets_through(typed: str, kept: list[float | None]) -> None:
    name, *more = typed.split()
    pruner = config(name, *more)
    found = rungs({i: {step: float(i) for step in STEPS} for i in range(12)}, pruner=pruner)
    assert [each.kept for each in found] == (kept if None in kept else pytest.approx(kept))
    last = sentences(found)[-1]
    if name == "none":
        assert "this pruner stops nothing here" in last and "trusted" not in last
    elif name == "wilcoxon":
        assert "a halving would let the best half go on there" in last
    else:
        first = next(each for each in found if each.kept != 1)
        assert f"at {first.cheap}" in last and f"the best {first.kept:.0%} go on there" in last
        assert "a config of the final best tenth in 6 of 7 cases" in last and f"{first.needed:.2f}" in last


def test_a_real_funnel_lets_as_many_through() -> None:
    """Trials one after another with curves that do not cross: of those at a step the part that goes on."""
    draw, study, asked = np.random.default_rng(0), optuna.create_study(pruner=FunnelPruner(40)), Counter[int]()
    for _ in range(1000):
        trial, level = study.ask(), float(draw.normal())
        for step in STEPS:
            trial.report(level, step)
            asked[step] += 1
            if step < STEPS[-1] and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, level)
    found = goes_on({"_target_": "search.pruners.funnel.FunnelPruner", "first": 40, "share": 0.25}, STEPS)
    assert found is not None
    for step, after in zip(STEPS, STEPS[1:], strict=False):
        assert asked[after] / asked[step] == pytest.approx(found[step], abs=0.1)


def test_the_same_correlation_can_be_trusted_by_a_halving_and_not_by_the_default() -> None:
    draw = np.random.default_rng(0)
    y = draw.normal(size=300)
    x = 0.65 * y + math.sqrt(1 - 0.65**2) * draw.normal(size=300)
    made = {i: {40: float(a), 300: float(b)} for i, (a, b) in enumerate(zip(x, y, strict=True))}
    said = {}
    for name in ("funnel", "successive_halving"):
        said[name] = sentences(rungs(made, pruner=config(name)))[-1]
    assert said["successive_halving"].startswith("Early stopping can be trusted here at step 40: the best 50% go on")
    assert said["funnel"].startswith(
        "Early stopping cannot be trusted here at step 40: the best 25% go on there, which "
    )
    assert "fewer than 6 of 7 cases" in said["funnel"] and "0.78" in said["funnel"]


def test_a_record_from_before_is_read_as_that_of_a_halving() -> None:
    old = Agreement(**{"cheap": "a", "full": "b", "seen": 9, "pairs": 9, "correlation": 0.7, "low": 0.6, "high": 0.8})
    assert old.kept is None and old.needed == needed(0.5) and old.answer == "can be"
    assert table([old]).rows

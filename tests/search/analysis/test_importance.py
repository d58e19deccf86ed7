"""Importance both ways: known functions, what chance gives, what is left out, and that forty options come to an end."""

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from search.analysis import importance as importance_numbers
from search.analysis.importance import ENOUGH, LEVEL, PERMUTATIONS, Importance, Share, limits_of, measure
from search.report.importance import sentences, table

optuna.logging.set_verbosity(optuna.logging.ERROR)
X = FloatDistribution(0.0, 1.0)
Objective = Callable[[dict[str, object]], float]


def kind(count: int) -> CategoricalDistribution:
    return CategoricalDistribution([f"o{i}" for i in range(count)])


def study(count: int, domains: dict[str, BaseDistribution], objective: Objective, seed: int = 0) -> Study:
    draw, made = np.random.default_rng(seed), optuna.create_study()
    for _ in range(count):
        params: dict[str, object] = {
            name: domain.choices[int(draw.integers(len(domain.choices)))]
            if isinstance(domain, CategoricalDistribution)
            else float(draw.uniform())
            for name, domain in domains.items()
        }
        made.add_trial(create_trial(params=params, distributions=domains, value=objective(params)))
    return made


def digit(value: object) -> int:
    return int(str(value)[1:])


def shares(found: Importance) -> dict[str, tuple[float, float]]:
    return {share.name: (share.ped_anova, share.fanova) for share in found.shares}


def test_fanova_is_the_part_of_the_variance() -> None:
    """Of a + 2 b, a and b uniform on the same numbers: 1/5 and 4/5."""
    domains: dict[str, BaseDistribution] = {"a": kind(4), "b": kind(4), "c": kind(4)}
    found = shares(measure(study(250, domains, lambda p: digit(p["a"]) + 2.0 * digit(p["b"]))))
    assert found["a"][1] == pytest.approx(0.2, abs=0.08)
    assert found["b"][1] == pytest.approx(0.8, abs=0.08)
    assert found["c"][1] < 0.02 and found["c"][0] < min(found["a"][0], found["b"][0])


def test_a_kind_of_forty_options_comes_to_an_end() -> None:
    domains: dict[str, BaseDistribution] = {"activation": kind(43), "optimizer": kind(24), "placement": kind(2)}
    found = measure(study(80, domains, lambda p: float(digit(p["optimizer"]))))
    assert max(found.shares, key=lambda share: share.fanova).name == "optimizer"


def test_the_two_can_reverse_each_other_and_that_is_said() -> None:
    """`wreck` ruins half of the space; among what is left, the best are told apart by `fine`."""
    domains: dict[str, BaseDistribution] = {"fine": X, "wreck": kind(2)}
    found = measure(study(150, domains, lambda p: 10.0 * digit(p["wreck"]) + float(str(p["fine"]))))
    assert found.shares[0].name == "fine" and max(found.shares, key=lambda s: s.fanova).name == "wreck"
    text = " ".join(sentences(found))
    assert "The two differ: take care of wreck to avoid bad configs, of fine to get from good to best." in text
    assert len(table(found).rows) == 2


def test_pruned_and_failed_trials_and_conditional_parameters_are_left_out() -> None:
    domains: dict[str, BaseDistribution] = {"optimizer": kind(2), "x": X}
    made = study(30, domains, lambda p: float(digit(p["optimizer"])))
    before = measure(made, seed=3)
    made.add_trial(create_trial(params={"x": 0.5}, distributions={"x": X}, state=TrialState.FAIL))
    made.add_trial(
        create_trial(params={"x": 0.5}, distributions={"x": X}, state=TrialState.PRUNED, intermediate_values={1: -99.0})
    )
    assert measure(made, seed=3) == before and before.trials == 30
    more: dict[str, BaseDistribution] = domains | {"optimizer.o1.lr": X}
    made.add_trial(
        create_trial(params={"optimizer": "o1", "x": 0.5, "optimizer.o1.lr": 0.5}, distributions=more, value=1.0)
    )
    found = measure(made, seed=3)
    assert [share.name for share in found.shares] == [share.name for share in before.shares]
    assert found.left_out == ["optimizer.o1.lr"] and "optimizer.o1.lr" in " ".join(sentences(found))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (study(0, {}, lambda p: 0.0), "too few"),
        (study(ENOUGH - 1, {"x": X}, lambda p: float(str(p["x"]))), "too few"),
        (study(ENOUGH, {"x": X}, lambda p: 1.0), "the same value"),
        (study(ENOUGH, {"x": kind(1)}, lambda p: 1.0), "no parameter"),
    ],
)
def test_too_little_is_an_answer_and_no_error(made: Study, why: str) -> None:
    found = measure(made)
    assert not found.shares and why in found.why
    assert len(sentences(found)) == 1 and why in sentences(found)[0]


def test_shares_are_parts_and_the_same_seed_gives_the_same() -> None:
    domains: dict[str, BaseDistribution] = {"a": kind(5), "x": X, "y": X}
    made = study(ENOUGH + 5, domains, lambda p: digit(p["a"]) * float(str(p["x"])))
    found = measure(made, seed=7)
    assert found == measure(made, seed=7)
    assert sum(share.ped_anova for share in found.shares) == pytest.approx(1)
    assert all(0 <= share.fanova <= 1 for share in found.shares) and found.best == pytest.approx(1 / 3)


def test_what_is_measured_leaves_the_log_as_it_was() -> None:
    before = optuna.logging.get_verbosity()
    measure(study(ENOUGH, {"x": X}, lambda p: float(str(p["x"]))))
    assert optuna.logging.get_verbosity() == before
    assert sentences(Importance(20, [Share("a", 1.0, 0.4)], 0.25))[1].count("60%") == 1


NOISE: dict[str, BaseDistribution] = {"activation": kind(20), "norm": kind(5), "place": kind(2), "lr": X}


def noise(count: int, seed: int, effect: Objective = lambda p: 0.0, digits: int = 9) -> Study:
    """Draws whose ends are noise, and what `effect` adds to it."""
    draw = np.random.default_rng([seed, 1])
    return study(count, NOISE, lambda p: round(effect(p) + float(draw.normal()), digits), seed)


class Cheap:
    """Variance of the group means by the variance, in the place of both measures."""

    def __init__(self, trials: list[optuna.trial.FrozenTrial], shared: dict[str, BaseDistribution], seed: int) -> None:
        columns = [[t.params[name] for t in trials] for name in shared]
        self.codes = [
            np.unique([round(x, 1) if isinstance(x, float) else digit(x) for x in c], return_inverse=True)[1]
            for c in columns
        ]

    def shares(self, values: np.ndarray) -> np.ndarray:
        centred = values - values.mean()
        sums = [(np.bincount(c, centred), np.maximum(np.bincount(c), 1)) for c in self.codes]
        return np.array([(total**2 / count).sum() for total, count in sums]) / (centred @ centred)


def test_where_nothing_matters_at_most_one_table_in_twenty_names_something(monkeypatch: pytest.MonkeyPatch) -> None:
    def cheap(
        trials: list[optuna.trial.FrozenTrial],
        shared: dict[str, BaseDistribution],
        best: float,
        values: list[np.ndarray],
    ) -> np.ndarray:
        fast = Cheap(trials, shared, 0)
        return np.array([fast.shares(np.where(v <= np.quantile(v, best), 0.0, 1.0)) for v in values])

    monkeypatch.setattr(importance_numbers, "Fanova", Cheap)
    monkeypatch.setattr(importance_numbers, "divergences", cheap)
    named = 0
    for seed in range(200):
        count, digits = (ENOUGH, 20, 36)[seed % 3], (9, 0)[seed % 2]  # 0: values with many ties
        said = " ".join(sentences(measure(noise(count, seed, digits=digits), seed)))
        named += said.count("nothing stands out") < 2
    assert named <= 19, "of 200 at 5 %, 99.9 %"


def test_the_limit_holds_for_skewed_and_discrete_figures_alike() -> None:
    """Rows that are exchangeable: the first is beyond in 5 % of cases, not more, and nearly as many."""
    draw, beyond = np.random.default_rng(0), 0
    for _ in range(2000):
        skewed, discrete = (
            draw.exponential(size=(PERMUTATIONS + 1, 3)) ** 2,
            draw.binomial(3, 0.2, (PERMUTATIONS + 1, 2)),
        )
        figures = np.concatenate([skewed, discrete, np.ones((PERMUTATIONS + 1, 1))], axis=1)
        beyond += bool((figures[0] > limits_of(figures)).any())
    assert 0.035 < beyond / 2000 < 0.065 and LEVEL == 0.05


def test_what_matters_is_named_with_the_real_measures_and_noise_is_not() -> None:
    found = measure(noise(36, 0, lambda p: 4.0 * digit(p["place"])))
    by_name = {share.name: share for share in found.shares}
    assert by_name["place"].fanova_stands_out and not any(by_name[n].fanova_stands_out for n in ("norm", "lr"))
    assert "bad configs included: place most" in sentences(found)[1]
    assert any("*" in str(cell) for column in table(found).columns for cell in column.cells)
    nothing = measure(noise(36, 5))
    said = sentences(nothing)
    assert all(
        "nothing stands out, the largest share is" in text and "chance gives it up to" in text for text in said[:2]
    )
    assert not any(share.ped_stands_out or share.fanova_stands_out for share in nothing.shares)
    assert "take care" not in " ".join(said) and "one table in 20 has a mark" in " ".join(said)
    assert not any("*" in str(cell) for column in table(nothing).columns for cell in column.cells)


def test_a_record_from_before_chance_was_measured_names_nothing() -> None:
    said = sentences(Importance(20, [Share("a", 0.7, 0.4), Share("b", 0.3, 0.4)], 0.25))
    assert "the largest share is 70%, which was not compared with chance" in said[0] and "40%" in said[1]
    assert not any("one table in" in text for text in said) and table(Importance(20, [Share("a", 1.0, 0.4)])).rows

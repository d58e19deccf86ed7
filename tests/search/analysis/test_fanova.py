"""The part of the variance that a parameter explains: against the definition on a grid, Optuna, and known functions."""

import warnings

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import create_trial
from sklearn.tree import DecisionTreeRegressor

from search.analysis import fanova
from search.analysis.fanova import Fanova, parts

optuna.logging.set_verbosity(optuna.logging.ERROR)
CELLS = 8  # a power of two: scikit-learn keeps points in float32


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_a_trees_parts_are_the_definition_on_a_grid_that_holds_its_edges(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.integers(0, CELLS, (count, 3)) / CELLS + 0.5 / CELLS, draw.normal(size=count)
    tree = DecisionTreeRegressor(random_state=0).fit(x, y)  # edges halfway between points: multiples of 1 / 2 CELLS
    fine = (np.arange(2 * CELLS) + 0.5) / (2 * CELLS)
    grid = np.stack(np.meshgrid(fine, fine, fine, indexing="ij"), axis=-1)
    f = tree.predict(grid.reshape(-1, 3)).reshape(grid.shape[:-1])
    found = parts(tree.tree_, 3)
    if np.ptp(f) == 0:
        assert found is None
    else:
        assert found is not None
        marginal = [f.mean(axis=tuple({0, 1, 2} - {j})).var() / f.var() for j in range(3)]
        np.testing.assert_allclose(found, marginal, atol=1e-9)


def test_a_forest_gives_what_optunas_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanova, "TREES", 200)
    draw, domains = np.random.default_rng(0), {name: FloatDistribution(-1.0, 3.0) for name in "abc"}
    study = optuna.create_study()
    for _ in range(50):
        params = {name: float(draw.uniform(-1, 3)) for name in domains}
        value = params["a"] + 0.5 * params["b"] ** 2 + 0.3 * float(draw.normal())
        study.add_trial(create_trial(params=params, distributions=dict(domains), value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = FanovaImportanceEvaluator(n_trees=200, seed=0).evaluate(study)
    ours = Fanova(study.trials, domains, 0).shares(np.array([trial.value for trial in study.trials], dtype=float))
    np.testing.assert_allclose(ours, [theirs[name] for name in domains], atol=0.02)


@pytest.mark.parametrize(
    ("domain", "values", "scale"),
    [
        (FloatDistribution(1e-4, 1e-1, log=True), np.geomspace(1e-4, 1e-1, 200), np.log),
        (IntDistribution(4, 64, log=True), np.unique(np.geomspace(4, 64, 200).astype(int)), np.log),
        (IntDistribution(1, 5), np.arange(1, 6), np.asarray),
        (CategoricalDistribution([1, 2, 4, 8, 16]), np.array([1, 2, 4, 8, 16]), np.log2),
    ],
)
def test_a_parameter_weighs_as_a_search_draws_it(domain: BaseDistribution, values: np.ndarray, scale: object) -> None:
    """Of u + v, u uniform and v a number in [0, 1] with n equally likely values, or uniform in logarithm."""
    draw, unit = np.random.default_rng(1), FloatDistribution(0.0, 1.0)
    z = np.asarray(scale(values), dtype=float)  # type: ignore[operator]
    z = (z - z.min()) / (z.max() - z.min())
    trials, ends = [], []
    for _ in range(600):
        i, u = int(draw.integers(len(values))), float(draw.uniform())
        params = {"v": values[i].item(), "u": u}
        trials.append(create_trial(params=params, distributions={"v": domain, "u": unit}, value=0.0))
        ends.append(u + z[i])
    variance = z.var() if len(values) < 10 else 1 / 12
    found = Fanova(trials, {"v": domain, "u": unit}, 0).shares(np.array(ends))
    assert found[0] == pytest.approx(variance / (variance + 1 / 12), abs=0.04)

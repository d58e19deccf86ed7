"""A model of the table, from which any config of the space can be drawn.

It gives a config's end from its parameters: linear effects, a random forest, or a forest on what the linear effects
leave, whichever ranks held-out configs best. What it cannot know comes from the table: a drawn config gets the two
curves of a real one of about the same held-out prediction, moved by the difference of the predictions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from benchmarks.filling import asked
from experiments.search_evidence.pool import Pool

NEAR, DRAWS = 20, 20_000


def encode(pool: Pool, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """A column a choice, and each number's place x in its domain from -1 to 1 with x^2; 0 where a row has none."""
    found = []
    for name, domain in pool.domains.items():
        values = columns[name]
        if isinstance(domain, CategoricalDistribution):
            found += [(values == choice).astype(float) for choice in range(len(domain.choices))]
        elif isinstance(domain, FloatDistribution | IntDistribution):
            scale = np.log if domain.log else np.asarray
            low, high = scale(domain.low), scale(domain.high)
            place = np.nan_to_num(2 * (scale(values) - low) / (high - low) - 1)
            found += [place, place**2]
    return np.stack(found, axis=1)


class Both:
    """A forest on what linear effects leave."""

    def __init__(self) -> None:
        self.linear, self.forest = Ridge(3.0), forest()

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Both":
        """Fit the effects, then the rest."""
        self.linear.fit(x, y)
        self.forest.fit(x, y - self.linear.predict(x))
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The sum of both."""
        return np.asarray(self.linear.predict(x) + self.forest.predict(x))


def forest() -> RandomForestRegressor:
    """A hundred trees, reproducible."""
    return RandomForestRegressor(100, max_features=0.33, random_state=0)


MODELS: dict[str, Any] = {"linear": lambda: Ridge(3.0), "forest": forest, "linear and forest": Both}


def validate(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Each model's predictions of held-out configs, eight folds."""
    found = {}
    for name, make in MODELS.items():
        found[name] = np.zeros_like(y)
        for train, test in KFold(8, shuffle=True, random_state=0).split(x):
            found[name][test] = make().fit(x[train], y[train]).predict(x[test])
    return found


@dataclass
class Surrogate:
    """A model to be searched. held: its held-out prediction of each config of the pool, sorted as the pool is; truth:
    which end is true, of the seed that is unseen or the mean of both; target: what the best 1 % of all draws reach.
    """

    pool: Pool
    model: Any
    held: np.ndarray
    truth: str = "unseen"
    target: float = np.nan

    def predict(self, params: Mapping[str, Any]) -> float:
        """A config's end, as far as its parameters tell."""
        columns = {name: np.full(1, np.nan) for name in self.pool.domains}
        for name, value in params.items():
            columns[name][0] = self.pool.domains[name].to_internal_repr(value)
        return float(self.model.predict(encode(self.pool, columns))[0])

    def donors(self, predicted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each prediction one of the NEAR configs whose held-out predictions are nearest, at random."""
        near = min(NEAR, len(self.held))
        first = np.clip(np.searchsorted(self.held, predicted) - near // 2, 0, len(self.held) - near)
        return np.asarray(first + rng.integers(0, near, len(predicted)))

    def curves(self, predicted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The two curves of each drawn config, (2, configs, rungs)."""
        donor = self.donors(predicted, rng)
        return self.pool.curves[:, donor] + (predicted - self.held[donor])[:, None]

    def true(self, curves: np.ndarray, view: int) -> np.ndarray:
        """What is true of (2, configs, rungs) curves for a search that sees seed `view`."""
        ends = curves[:, :, -1]
        return np.asarray(ends.mean(axis=0) if self.truth == "mean" else ends[1 - view])

    def suggest(self, trial: Trial) -> None:
        """Draw a config as a search does: each kind, then the parameters of its option."""
        draw = asked(trial)
        for kind in self.pool.kinds:
            option = draw(kind, self.pool.domains[kind])
            for name, domain in self.pool.domains.items():
                if name.startswith(f"{kind}.{option}."):
                    draw(name, domain)


def random_columns(pool: Pool, count: int) -> dict[str, np.ndarray]:
    """`count` draws from the whole space, in Optuna's internal form."""
    rng, found = np.random.default_rng(0), {}
    for name, domain in pool.domains.items():
        found[name] = _values(domain, rng, count)
        if name not in pool.kinds:
            kind, option = name.split(".")[:2]
            index = pool.domains[kind].to_internal_repr(option)
            found[name] = np.where(found[kind] == index, found[name], np.nan)
    return found


def _values(domain: BaseDistribution, rng: np.random.Generator, count: int) -> np.ndarray:
    if isinstance(domain, CategoricalDistribution):
        return rng.integers(0, len(domain.choices), count).astype(float)
    assert isinstance(domain, FloatDistribution | IntDistribution)
    half = (domain.step or 0.0) / 2
    low, high = domain.low - half, domain.high + half
    values = np.exp(rng.uniform(np.log(low), np.log(high), count)) if domain.log else rng.uniform(low, high, count)
    return values if not half else np.round(values)


def build(pool: Pool, truth: str = "unseen") -> tuple[Surrogate, dict[str, float], str]:
    """Fit the best model on the configs that ended with both seeds; held-out rank correlations, the best one's name."""
    pool = pool.take(np.flatnonzero(~np.isnan(pool.curves).any(axis=(0, 2))))
    x, y = encode(pool, pool.columns), pool.truth
    held = validate(x, y)
    scores = {name: float(spearmanr(predicted, y).statistic) for name, predicted in held.items()}
    name = max(scores, key=lambda one: scores[one])
    order = np.argsort(held[name])
    made = Surrogate(pool.take(order), MODELS[name]().fit(x, y), held[name][order], truth)
    drawn = made.model.predict(encode(pool, random_columns(pool, DRAWS)))
    curves = made.curves(drawn, np.random.default_rng(0))
    made.target = float(np.quantile([made.true(curves, view) for view in (0, 1)], 0.01))
    return made, scores, name

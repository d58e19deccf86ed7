"""What part of the objective's variance over the space each parameter explains alone, by a random forest.

Hutter et al. 2014, ICML. Optuna has it too: an option a column, without end for 40 of them, and log domains linearly.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

TREES = 16
Array = NDArray[np.float64]


class Fanova:
    """Var(E[f | x_j]) / Var(f) for each parameter j, the mean over trees f, each x uniform in its domain.

    A tree is fitted to a bootstrap sample of the trials, with options as numbers in a random order of its own; a log
    domain is uniform in logarithm, a whole number is an interval of length 1.
    """

    def __init__(self, trials: Sequence[FrozenTrial], shared: Mapping[str, BaseDistribution], seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.given = []
        for _ in range(TREES):
            columns = [_column([t.params[name] for t in trials], domain, draw) for name, domain in shared.items()]
            often = np.bincount(draw.integers(len(trials), size=len(trials)), minlength=len(trials))
            self.given.append((np.stack(columns, axis=1).astype(np.float32), often.astype(float)))

    def shares(self, values: Array) -> Array:
        """Each parameter's share for these values of the trials, (parameters,), with the same samples for any values.

        The mean over the trees that divide anything; all 0 where none does.
        """
        from sklearn.tree import DecisionTreeRegressor  # an import of a second

        found = []
        for x, often in self.given:
            tree = DecisionTreeRegressor(random_state=0).fit(x, values, sample_weight=often, check_input=False).tree_
            found.append(parts(tree, x.shape[1]))
        some = [each for each in found if each is not None]
        return np.mean(some, axis=0) if some else np.zeros(self.given[0][0].shape[1])


def parts(tree: Any, parameters: int) -> Array | None:
    """Var(E[f | x_j]) / Var(f) of scikit-learn's tree f over the unit cube, (parameters,); None where f is constant."""
    low, high, value = _leaves(tree, parameters)
    width = high - low
    weight = width.prod(axis=1)
    centred = value - weight @ value
    variance = weight @ centred**2
    if not variance > 0:
        return None
    masses = weight[:, None] / width * centred[:, None]
    return np.array([_main(*each) for each in zip(low.T, high.T, masses.T, strict=True)]) / variance


def _column(values: Sequence[Any], domain: BaseDistribution, draw: np.random.Generator) -> Array:
    """Where values stand in their domain, (trials,), its ends at 0 and 1."""
    if isinstance(domain, CategoricalDistribution):
        place = draw.permutation(len(domain.choices))
        at = np.array([place[int(domain.to_internal_repr(value))] for value in values])
        return np.asarray((at + 0.5) / len(domain.choices))
    assert isinstance(domain, FloatDistribution | IntDistribution)
    half = (domain.step or 0) / 2
    scale = np.log if domain.log else np.asarray
    low, high = (float(scale(edge)) for edge in (domain.low - half, domain.high + half))
    return np.asarray((scale(np.array(values, dtype=float)) - low) / (high - low))


def _leaves(tree: Any, parameters: int) -> tuple[Array, Array, Array]:
    """The boxes of a tree's leaves in the unit cube, (leaves, parameters) twice, and their values."""
    left, right, feature, threshold = tree.children_left, tree.children_right, tree.feature, tree.threshold
    low, high = np.zeros((len(left), parameters)), np.ones((len(left), parameters))
    level = np.array([0])
    while len(level := level[left[level] >= 0]):
        for side in (left[level], right[level]):
            low[side], high[side] = low[level], high[level]
        high[left[level], feature[level]] = threshold[level]
        low[right[level], feature[level]] = threshold[level]
        level = np.concatenate([left[level], right[level]])
    ends = left < 0
    return low[ends], high[ends], tree.value[ends, 0, 0]


def _main(low: Array, high: Array, mass: Array) -> float:
    """Var(m), m(t) the sum of the masses whose intervals (low, high) hold t, t uniform in (0, 1), the mean of m 0."""
    edges, at = np.unique(np.concatenate([low, high]), return_inverse=True)
    steps = np.bincount(at, np.concatenate([mass, -mass]), len(edges))
    return float(np.cumsum(steps)[:-1] ** 2 @ np.diff(edges))

"""Optuna's Parzen estimator on the rows of a pool, as densities relative to the prior from which the rows were drawn.

p(x) = sum_k w_k prod_j K_kj(x_j), a kernel for each observation and a last one for the prior. Its ratio to the uniform
density is what a row of the pool must be weighted with, so that drawing rows is drawing from p.

As optuna.samplers._tpe.parzen_estimator of Optuna 5.0 has it: prior weight 1, magic clip, endpoints not considered,
and older observations weighing less from the 26th on.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import ndtr

FLAT = 25  # the latest observations, all of weight 1


@cache
def weights(count: int) -> np.ndarray:
    """w_k of `count` observations in the order of their trials and of the prior, their sum 1."""
    ramp = np.linspace(1.0 / max(count, 1), 1.0, num=max(0, count - FLAT))
    whole = np.concatenate([ramp, np.ones(min(count, FLAT)), [1.0]])
    return whole / whole.sum()


class Categorical:
    """Parameters with choices, together: K_kj(x) = (1[x = o_k] + a) / (1 + C_j a), a = 1 / (observations + 1)."""

    def __init__(self, columns: Sequence[np.ndarray], counts: Sequence[int]) -> None:
        """`columns` hold indices of choices, `counts` how many choices there are."""
        self.counts = np.asarray(counts, dtype=float)
        self.columns = [column.astype(int) for column in columns]
        self.matches = np.zeros((len(columns[0]),) * 2, dtype=np.int8)
        for column in columns:
            self.matches += column[:, None] == column[None, :]

    def kernels(self, observed: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """K_k / uniform at `rows`, (rows, observations)."""
        a = 1.0 / (len(observed) + 1)
        by_matches = ((1 + a) / a) ** np.arange(len(self.counts) + 1)
        by_matches *= np.prod(self.counts * a / (1 + self.counts * a))
        return by_matches[self.matches[rows][:, observed]]

    def alone(self, observed: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """p / uniform at `rows` where there is one parameter: the mixture of its kernels, summed by choice."""
        a, choices, weight = 1.0 / (len(observed) + 1), int(self.counts[0]), weights(len(observed))
        by_choice = np.bincount(self.columns[0][observed], weight[:-1], choices) + a * weight[:-1].sum()
        return (by_choice * choices / (1 + choices * a) + weight[-1])[self.columns[0][rows]]


class Numerical:
    """One parameter on a scale: normal distributions cut off at the ends of the domain, in logarithm where it is log.

    A whole number's density is the mass of its interval of length 1.
    """

    def __init__(self, column: np.ndarray, domain: FloatDistribution | IntDistribution) -> None:
        half = (domain.step or 0.0) / 2
        scale = np.log if domain.log else np.asarray
        self.x = np.asarray(scale(column), dtype=float)
        self.low, self.high = float(scale(domain.low - half)), float(scale(domain.high + half))
        self.interval = (scale(column - half), scale(column + half)) if half else None
        width = self.interval[1] - self.interval[0] if self.interval else 1.0
        self.uniform = np.broadcast_to(width / (self.high - self.low), self.x.shape)

    def sigmas(self, observed: np.ndarray) -> np.ndarray:
        """The larger distance to a neighbour, at least 1 / min(100, observations + 2) of the domain."""
        order = np.argsort(observed)
        inside = observed[order]
        around = np.concatenate([[self.low], inside, [self.high]])
        gaps = np.diff(around)
        widths = np.maximum(gaps[:-1], gaps[1:])
        if len(observed) >= 2:
            widths[0], widths[-1] = gaps[1], gaps[-2]
        found = np.empty_like(widths)
        found[order] = widths
        span = self.high - self.low
        return np.clip(found, span / min(100.0, len(observed) + 2.0), span)

    def kernels(self, observed: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """K_k / uniform at `rows`, (rows, observations + 1), the prior's last."""
        mu = np.append(self.x[observed], (self.low + self.high) / 2)
        sigma = np.append(self.sigmas(self.x[observed]), self.high - self.low)
        inside = ndtr((self.high - mu) / sigma) - ndtr((self.low - mu) / sigma)
        if self.interval is None:
            z = (self.x[rows][:, None] - mu) / sigma
            value = np.exp(-0.5 * z * z) / (sigma * np.sqrt(2 * np.pi))
        else:
            left, right = (edge[rows][:, None] for edge in self.interval)
            value = ndtr((right - mu) / sigma) - ndtr((left - mu) / sigma)
        return value / inside / self.uniform[rows][:, None]


class Group:
    """Parameters whose density is one joint mixture.

    members: the rows of the pool that have them; `place` says where a row of the pool stands among them.
    """

    def __init__(
        self, names: Sequence[str], columns: Sequence[np.ndarray], domains: Sequence[BaseDistribution]
    ) -> None:
        self.names = tuple(names)
        self.members = np.flatnonzero(~np.isnan(columns[0]))
        self.place = np.full(len(columns[0]), -1)
        self.place[self.members] = np.arange(len(self.members))
        chosen = [
            (c[self.members], len(d.choices))
            for c, d in zip(columns, domains, strict=True)
            if isinstance(d, CategoricalDistribution)
        ]
        self.categorical = Categorical([c for c, _ in chosen], [count for _, count in chosen]) if chosen else None
        self.numerical = [
            Numerical(c[self.members], d)
            for c, d in zip(columns, domains, strict=True)
            if isinstance(d, FloatDistribution | IntDistribution)
        ]

    def density(self, observed: Sequence[int], rows: np.ndarray | None = None) -> np.ndarray:
        """p / uniform at `rows` of the pool (all members when None), for observed rows in the order of their trials."""
        where = slice(None) if rows is None else self.place[rows]
        size = len(self.members) if rows is None else len(rows)
        seen = self.place[np.asarray(observed, dtype=int)]
        if self.categorical is not None and len(self.names) == 1:
            return self.categorical.alone(seen, where)
        mixture = np.ones((size, len(seen) + 1))
        if self.categorical is not None:
            mixture[:, :-1] *= self.categorical.kernels(seen, where)
        for parameter in self.numerical:
            mixture *= parameter.kernels(seen, where)
        return mixture @ weights(len(seen))

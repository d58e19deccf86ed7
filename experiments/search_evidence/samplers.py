"""Samplers on a pool: which row is tried next.

Each has `ask`, and `tell` with what Optuna's study is told: (trial's number, row, last step, value, complete). A failed
trial is not told, as Optuna's samplers do not look at it.
"""

import math
from bisect import insort
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from experiments.search_evidence.density import Group
from experiments.search_evidence.pool import Pool

EI_CANDIDATES, GAMMA, GAMMA_MOST = 24, 0.1, 25  # Optuna's defaults


class Sampler(Protocol):
    """Draws rows that are still free."""

    def ask(self, free: np.ndarray) -> int:
        """Choose one of the rows in `free`."""
        ...

    def tell(self, number: int, row: int, step: int, value: float, complete: bool) -> None:
        """Take note of a trial that was complete or pruned."""
        ...


class Random:
    """Each free row with the same probability."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def ask(self, free: np.ndarray) -> int:
        return int(free[self.rng.integers(len(free))])

    def tell(self, number: int, row: int, step: int, value: float, complete: bool) -> None:
        pass


def partition(pool: Pool, how: str) -> list[Group]:
    """The groups of parameters with a joint density, those that every row has first.

    independent: each parameter alone; intersection: the kinds together, the others alone (what TPESampler() does);
    group: the kinds together and the parameters of each option together.
    """
    options: dict[str, list[str]] = {}
    for name in pool.domains:
        if name not in pool.kinds and not pool.domains[name].single():
            options.setdefault(name.rpartition(".")[0] if how == "group" else name, []).append(name)
    kinds = [kind for kind in pool.kinds if not pool.domains[kind].single()]
    together = [[kind] for kind in kinds] if how == "independent" else [kinds]
    found = []
    for names in (*together, *options.values()):
        columns = [pool.columns[name] for name in names]
        if not np.isnan(columns[0]).all():
            found.append(Group(names, columns, [pool.domains[name] for name in names]))
    return found


def gamma(count: int) -> int:
    """min(ceil(count / 10), 25): how many trials are good."""
    return min(math.ceil(GAMMA * count), GAMMA_MOST)


class Tpe:
    """argmax of l(x) / g(x) over rows drawn with probability proportional to l: Optuna's TPE on a pool.

    l is the density of the good trials, g that of the others. Complete trials are better than pruned ones, those
    pruned later better than those pruned earlier. `best` and `latest` bound the trials that are looked at.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        rng: np.random.Generator,
        startup: int = 10,
        candidates: int = EI_CANDIDATES,
        best: int | None = None,
        latest: int | None = None,
    ) -> None:
        self.groups, self.rng, self.startup, self.candidates = groups, rng, startup, candidates
        self.best, self.latest = best, latest
        rows = len(groups[0].place)
        self.whole = {i for i, group in enumerate(groups) if len(group.members) == rows}
        self.has = [[i for i, group in enumerate(groups) if group.place[row] >= 0] for row in range(rows)]
        self.of_group: list[list[tuple[int, int]]] = [[] for _ in groups]  # (number, row) of the trials that have it
        self.order: list[tuple[int, int, float, int]] = []  # best first, the trial's number last
        self.numbers: list[int] = []
        self.row: dict[int, int] = {}
        self.good: set[int] = set()
        self.others: set[int] = set()
        self.log_l = np.zeros(rows)
        self.parts_l = [np.log(group.density([])) for group in groups]
        self.parts_g: list[np.ndarray | None] = [None] * len(groups)
        for group, logs in zip(groups, self.parts_l, strict=True):
            self.log_l[group.members] += logs

    def tell(self, number: int, row: int, step: int, value: float, complete: bool) -> None:
        value = math.inf if math.isnan(value) else value
        insort(self.order, (0, 0, value, number) if complete else (1, -step, value, number))
        self.numbers.append(number)
        self.row[number] = row
        for i in self.has[row]:
            self.of_group[i].append((number, row))

    def ask(self, free: np.ndarray) -> int:
        if len(self.numbers) < self.startup:
            return int(free[self.rng.integers(len(free))])
        self.split()
        log_l = self.log_l[free]
        share = np.cumsum(np.exp(log_l - log_l.max()))
        drawn = np.searchsorted(share, self.rng.random(self.candidates) * share[-1])
        rows = free[np.unique(drawn)]
        return int(rows[np.argmax(self.log_l[rows] - self.log_g(rows))])

    def split(self) -> None:
        """Divide the trials into good ones and others, and renew the densities that this changes."""
        shown = self.order
        if self.best is not None and self.latest is not None:
            recent = set(self.numbers[-self.latest :])
            shown = self.order[: self.best] + [one for one in self.order[self.best :] if one[3] in recent]
        limit = gamma(len(shown))
        good, others = {one[3] for one in shown[:limit]}, {one[3] for one in shown[limit:]}
        better = good ^ self.good
        for number in better | (others ^ self.others):
            for i in self.has[self.row[number]]:
                self.parts_g[i] = None
        self.good, self.others = good, others
        for i in {i for number in better for i in self.has[self.row[number]]}:
            new = np.log(self.groups[i].density([row for number, row in self.of_group[i] if number in good]))
            self.log_l[self.groups[i].members] += new - self.parts_l[i]
            self.parts_l[i] = new

    def log_g(self, rows: np.ndarray) -> np.ndarray:
        """log g relative to the prior at some rows."""
        found = np.zeros(len(rows))
        for i in {i for row in rows for i in self.has[row]}:
            if i in self.whole:
                found += np.log(self.groups[i].density(self._others(i), rows))
                continue
            place, logs = self.groups[i].place[rows], self.parts_g[i]
            if logs is None:
                logs = self.parts_g[i] = np.log(self.groups[i].density(self._others(i)))
            found[place >= 0] += logs[place[place >= 0]]
        return found

    def _others(self, i: int) -> list[int]:
        return [row for number, row in self.of_group[i] if number in self.others]

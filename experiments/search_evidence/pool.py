"""The table as arrays: what a search may draw, what it then sees, and what is true.

Row i is a config, rung r the r-th time at which the objective was measured. A value is nan where the training had
failed before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from denoise.errors import UserError
from experiments.search_evidence import table
from experiments.tables import lines


@dataclass(frozen=True)
class Pool:
    """Configs that were trained with two seeds.

    curves: (2, rows, rungs); failed: (2, rows), the step at which a training failed, 0 where none did; columns: a
    parameter -> its values in Optuna's internal form, nan where the row has no such parameter; kinds: the parameters
    that every row has; starts: the rows that are no draws of the table but configs a search begins with, in order.
    """

    draws: np.ndarray
    curves: np.ndarray
    failed: np.ndarray
    every: int
    columns: Mapping[str, np.ndarray]
    domains: Mapping[str, BaseDistribution]
    kinds: tuple[str, ...]
    starts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.draws)

    @property
    def rungs(self) -> int:
        """How often a training was measured."""
        return int(self.curves.shape[2])

    @property
    def steps(self) -> int:
        """What a whole training costs."""
        return self.rungs * self.every

    @cached_property
    def truth(self) -> np.ndarray:
        """(v_0 + v_1) / 2, the objective at the end with either seed; inf where one of them failed."""
        return np.nan_to_num(self.curves[:, :, -1].mean(axis=0), nan=np.inf)

    def unseen(self, view: int) -> np.ndarray:
        """v at the end with the seed that a search which sees seed `view` has not seen; inf where it failed."""
        return np.nan_to_num(self.curves[1 - view, :, -1], nan=np.inf)

    @cached_property
    def rank(self) -> np.ndarray:
        """Each row's place by the truth, 0 the best."""
        return np.argsort(np.argsort(self.truth, kind="stable"), kind="stable")

    def best(self, percent: float) -> int:
        """How many rows the best `percent` are, at least one."""
        return max(1, round(len(self) * percent / 100))

    def take(self, chosen: Sequence[int] | np.ndarray) -> "Pool":
        """A pool of some of the rows."""
        index = np.asarray(chosen)
        columns = {name: values[index] for name, values in self.columns.items()}
        return Pool(
            self.draws[index],
            self.curves[:, index],
            self.failed[:, index],
            self.every,
            columns,
            self.domains,
            self.kinds,
        )


def read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read a table's trainings and its space: the committed file's, or of what is being filled. Errors: UserError."""
    if not path.exists():
        raise UserError(f"table={path.name}: no such file; fill it with python -m experiments.search_evidence.table")
    if path.suffix == ".gz":
        head, found = table.load(path)
    else:
        head, found = {}, lines(path)
    return found, head.get("space") or table.whole_space().describe()


def build(found: Sequence[Mapping[str, Any]], described: Mapping[str, Any], least: int = 10) -> Pool:
    """Make the pool of the configs that have both seeds. Errors: UserError where they are fewer than `least`."""
    narrow = min((one["width"] for one in found), default=0)
    known = {(one["draw"], one["seed"]): one for one in found if one["width"] == narrow}
    draws = sorted(draw for draw, seed in known if seed == 0 and (draw, 1) in known)
    whole = [one for one in known.values() if one["outcome"] == "complete"]
    if len(draws) < least or not whole:
        raise UserError(f"table: {len(draws)} configs have both seeds; a replay needs {least} or more")
    rungs = max(len(one["curve"]) for one in whole)
    curves, failed = np.full((2, len(draws), rungs), np.nan), np.zeros((2, len(draws)), dtype=int)
    for i, draw in enumerate(draws):
        for seed in (0, 1):
            one = known[draw, seed]
            curves[seed, i, : len(one["curve"])] = one["curve"]
            failed[seed, i] = 0 if one["outcome"] == "complete" else one["step"]
            if one["outcome"] != "complete":
                curves[seed, i, -1] = np.nan
    domains = domains_of(described)
    columns = {name: np.full(len(draws), np.nan) for name in domains}
    for i, draw in enumerate(draws):
        for name, value in known[draw, 0]["params"].items():
            columns[name][i] = domains[name].to_internal_repr(value)
    every = whole[0]["step"] // rungs
    return Pool(np.array(draws), curves, failed, every, columns, domains, tuple(described["options"]))


def with_starts(pool: Pool, starts: Pool) -> Pool:
    """A pool whose last rows are known starts; they are among no draws, so nobody draws them."""
    columns = {name: np.concatenate([values, starts.columns[name]]) for name, values in pool.columns.items()}
    both = [(getattr(pool, name), getattr(starts, name)) for name in ("draws", "curves", "failed")]
    draws, curves, failed = (np.concatenate(pair, axis=min(1, pair[0].ndim - 1)) for pair in both)
    more = tuple(range(len(pool), len(draws)))
    return replace(pool, draws=draws, curves=curves, failed=failed, columns=columns, starts=more)


def load(path: Path = table.TABLE) -> Pool:
    """The pool of a table. Errors: UserError."""
    return build(*read(path))


def domains_of(described: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """A space's domains, by parameter, from its description as plain data."""
    found: dict[str, BaseDistribution] = {
        kind: CategoricalDistribution(options) for kind, options in described["options"].items()
    }
    for name, domain in described["domains"].items():
        if "choices" in domain:
            found[name] = CategoricalDistribution(domain["choices"])
        elif isinstance(domain["low"], int) and isinstance(domain["high"], int):
            found[name] = IntDistribution(**domain)
        else:
            found[name] = FloatDistribution(**domain)
    return found

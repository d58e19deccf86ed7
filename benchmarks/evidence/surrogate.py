"""Optuna's own samplers and pruners on a model of the table: is the order of the strategies the same off the pool?

The model gives a config's curve from its parameters: linear effects, a random forest, or a forest on what the linear
effects leave, whichever ranks held-out configs best. A search sees that curve plus half the difference of two seeds of
some config; true is the model's value at the end.
"""

import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from benchmarks import results
from benchmarks.evidence.pool import Pool
from benchmarks.evidence.strategies import REFERENCE, STRATEGIES, Strategy
from search.pruner import FunnelPruner
from search.space import draw

SUMMARY = results.FOLDER / "surrogate.json"
CHOSEN = ("random", "tpe", "tpe_default", "tpe_group", "halving_2_16", "alone_halving_3_16", "group_funnel", "funnel")
REPEATS, MOST, DRAWS, RESAMPLES = 20, 150, 4000, 4000  # MOST: trainings after which a search is given up


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


def validate(x: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    """Each model's rank correlation on held-out configs, eight folds: at every rung."""
    found = {}
    for name, make in MODELS.items():
        held = np.zeros_like(y)
        for train, test in KFold(8, shuffle=True, random_state=0).split(x):
            held[test] = make().fit(x[train], y[train]).predict(x[test])
        found[name] = [float(spearmanr(held[:, rung], y[:, rung]).statistic) for rung in range(y.shape[1])]
    return found


@dataclass
class Surrogate:
    """A model to be searched. noise: curves that one seed adds; target: what the best 1 % of all draws reach."""

    pool: Pool
    model: Any
    noise: np.ndarray
    target: float

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        """The true curve of a config."""
        columns = {name: np.full(1, np.nan) for name in self.pool.domains}
        for name, value in params.items():
            columns[name][0] = self.pool.domains[name].to_internal_repr(value)
        return np.asarray(self.model.predict(encode(self.pool, columns))[0])

    def suggest(self, trial: Trial) -> None:
        """Draw a config as a search does: each kind, then the parameters of its option."""
        for kind in self.pool.kinds:
            option = draw(trial, kind, self.pool.domains[kind])
            for name, domain in self.pool.domains.items():
                if name.startswith(f"{kind}.{option}."):
                    draw(trial, name, domain)


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


def build(pool: Pool) -> tuple[Surrogate, dict[str, list[float]], str]:
    """Fit the best model on all configs that came to their end with both seeds; its validation, its name."""
    pool = pool.take(np.flatnonzero(~np.isnan(pool.curves).any(axis=(0, 2))))
    x, y = encode(pool, pool.columns), pool.curves.mean(axis=0)
    scores = validate(x, y)
    name = max(scores, key=lambda one: scores[one][-1])
    model = MODELS[name]().fit(x, y)
    ends = model.predict(encode(pool, random_columns(pool, DRAWS)))[:, -1]
    noise = (pool.curves[0] - pool.curves[1]) / 2**0.5
    return Surrogate(pool, model, noise, float(np.quantile(ends, 0.01))), scores, name


def sampler(strategy: Strategy, seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's own."""
    if not strategy.how:
        return optuna.samplers.RandomSampler(seed=seed)
    how: dict[str, Any] = {"independent": {"multivariate": False}, "group": {"multivariate": True, "group": True}}
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=strategy.startup, **how.get(strategy.how, {}))


def pruner(strategy: Strategy, pool: Pool) -> optuna.pruners.BasePruner:
    """Optuna's own, or the search's."""
    if strategy.other == "hyperband":
        return optuna.pruners.HyperbandPruner(strategy.first, pool.steps, strategy.factor)
    if strategy.other == "median":
        return optuna.pruners.MedianPruner()
    if strategy.share:
        return FunnelPruner(pool.every, strategy.share)
    if strategy.factor:
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=strategy.first, reduction_factor=strategy.factor)
    return optuna.pruners.NopPruner()


def search(made: Surrogate, strategy: Strategy, number: int) -> float:
    """Trainings until a config of the best 1 % is trained to the end; MOST where none is."""
    pool, rng = made.pool, np.random.default_rng(number)
    study = optuna.create_study(
        sampler=sampler(strategy, number), pruner=pruner(strategy, pool), study_name=str(number)
    )
    spent = 0
    while spent < MOST * pool.rungs:
        trial = study.ask()
        made.suggest(trial)
        curve = made.curve(trial.params)
        seen = curve + made.noise[rng.integers(len(made.noise))] * rng.choice((-1, 1))
        for rung, value in enumerate(seen):
            spent += 1
            trial.report(float(value), (rung + 1) * pool.every)
            if rung + 1 < pool.rungs and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(seen[-1]))
            if curve[-1] <= made.target:
                break
    return spent / pool.rungs


def main(pool: Pool, repeats: int, names: Sequence[str], command: str) -> int:
    """Search the model, write and print what it says beside the replay's figures. Exit status 0."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made, scores, model = build(pool)
    for name, score in scores.items():
        print(f"{name}: rank correlation on held-out configs {score[-1]:.3f} at the end, {score[0]:.3f} at step 16")
    spent: dict[str, np.ndarray] = {}
    with warnings.catch_warnings():  # group is marked experimental since Optuna 2
        warnings.simplefilter("ignore")
        for name in names:
            began = time.perf_counter()
            spent[name] = np.array([search(made, STRATEGIES[name], number) for number in range(repeats)])
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    content: dict[str, Any] = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": results.commit(),
        "configs": len(pool),
        "repeats": repeats,
        "model": model,
        "rank_correlation_by_rung": scores,
        "strategies": summarize(spent),
    }
    results.write(SUMMARY, content)
    print(markdown(content))
    return 0


def summarize(spent: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Means over repeats and ratios to the reference's, with bootstrap intervals."""
    found: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for name, values in spent.items():
        chosen = rng.integers(0, len(values), (RESAMPLES, len(values)))
        one: dict[str, Any] = {"says": STRATEGIES[name].says, "mean": float(values.mean())}
        one["interval_95"] = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975]).tolist()
        one["given_up"] = int((values >= MOST).sum())
        if REFERENCE in spent:
            other = spent[REFERENCE]
            one["ratio"] = float(values.mean() / other.mean())
            ratios = values[chosen].mean(axis=1) / other[chosen].mean(axis=1)
            one["ratio_interval_95"] = np.quantile(ratios, [0.025, 0.975]).tolist()
        found[name] = one
    return found


def markdown(content: Mapping[str, Any]) -> str:
    """The searches of the model, and how far their order is the replay's."""
    lines = [f"| strategy | best 1 % | by {REFERENCE}'s |", "|---|---|---|"]
    for name, one in content["strategies"].items():
        low, high = one["interval_95"]
        given_up = f"; {one['given_up']} given up" if one["given_up"] else ""
        ratio = ""
        if "ratio" in one:
            ratio = "{:.2f} ({:.2f} to {:.2f})".format(one["ratio"], *one["ratio_interval_95"])
        lines.append(f"| `{name}` {one['says']} | {one['mean']:.1f} ({low:.1f} to {high:.1f}){given_up} | {ratio} |")
    beside = results.FOLDER / "replay.json"
    replayed = json.loads(beside.read_text())["strategies"] if beside.exists() else {}
    shared = [name for name in content["strategies"] if name in replayed]
    if len(shared) > 2:
        here = [content["strategies"][name]["mean"] for name in shared]
        there = [replayed[name]["best_1"]["mean"] for name in shared]
        same = "the same" if np.array_equal(np.argsort(here), np.argsort(there)) else "not the same"
        value = spearmanr(here, there).statistic
        lines += [
            "",
            f"The order of the {len(shared)} strategies is {same} as on the table: rank correlation {value:.2f}.",
        ]
    return "\n".join(lines)

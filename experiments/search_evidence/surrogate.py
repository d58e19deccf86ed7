"""Optuna's own samplers and pruners on a model of the table: is the order of the strategies the same off the pool?

A search sees one of a drawn config's two curves; true is the end of the other one, or with truth=mean their mean.
"""

import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from scipy.stats import spearmanr

from benchmarks import results
from experiments import tables
from experiments.search_evidence.model import Surrogate, build
from experiments.search_evidence.parallel import each
from experiments.search_evidence.pool import Pool
from experiments.search_evidence.strategies import REFERENCE, STRATEGIES, Strategy
from search.pruners.funnel import FunnelPruner

SUMMARY = tables.FOLDER / "surrogate.jsonl"
WITHOUT = ("random", "tpe", "tpe_default", "tpe_group")
CHOSEN = (*WITHOUT, "halving_2_16", "alone_halving_3_16", "default_funnel", "group_funnel", "funnel_fifth", "funnel")
REPEATS, MOST, RESAMPLES = 40, 300, 4000  # MOST: trainings after which a search is given up


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
        curves = made.curves(np.array([made.predict(trial.params)]), rng)[:, 0]
        for rung, value in enumerate(curves[number % 2]):
            spent += 1
            trial.report(float(value), (rung + 1) * pool.every)
            if rung + 1 < pool.rungs and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(curves[number % 2, -1]))
            if made.true(curves[:, None], number % 2)[0] <= made.target:
                break
    return spent / pool.rungs


def main(pool: Pool, repeats: int, names: Sequence[str], truth: str, command: str) -> int:
    """Search the model, write and print what it says beside the replay's figures. Exit status 0."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made, scores, model = build(pool, truth)
    for name, score in scores.items():
        print(f"{name}: rank correlation on held-out configs {score:.3f}{', taken' if name == model else ''}")
    with warnings.catch_warnings():  # group is marked experimental since Optuna 2
        warnings.simplefilter("ignore")
        searched = each(lambda name: [search(made, STRATEGIES[name], number) for number in range(repeats)], names)
    spent = {name: np.array(values) for name, values in searched.items()}
    content: dict[str, Any] = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": results.commit(),
        "configs": len(pool),
        "repeats": repeats,
        "truth": truth,
        "model": model,
        "rank_correlation": scores,
        "strategies": summarize(spent),
    }
    head = {key: value for key, value in content.items() if key != "strategies"}
    tables.write(SUMMARY, head, tables.named(content["strategies"], "strategy"))
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
    replayed = {one["strategy"]: one for one in tables.read(tables.FOLDER / "replay.jsonl")[1]}
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

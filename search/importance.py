"""How much each choice matters to the objective, by two measures that answer different questions."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.table import Table

ENOUGH = 10  # complete trials
BEST = 5  # trials that PED-ANOVA's best part holds at least
MOST = 500  # trials that fANOVA is given; its time grows faster than their number
ORDERS, TREES = 4, 16  # fANOVA: orders of the options, and trees over all of them


@dataclass(frozen=True)
class Share:
    """One parameter. ped_anova: its part of what sets the best trials apart; fanova: its part of the variance."""

    name: str
    ped_anova: float
    fanova: float


@dataclass(frozen=True)
class Importance:
    """Both measures over the parameters that every complete trial has; without shares, `why` says why.

    best: the part of the trials that PED-ANOVA counts as best; left_out: parameters that only some trials have.
    """

    trials: int
    shares: list[Share] = field(default_factory=list)
    best: float = 0.0
    left_out: list[str] = field(default_factory=list)
    why: str = ""


def measure(study: Study, seed: int = 0) -> Importance:
    """Measure both importances over the complete trials of a study whose objective is minimized; never refuses.

    Both of Optuna's evaluators leave out trials that were stopped early or failed, and fANOVA every parameter that
    some trial lacks; PED-ANOVA could take those, which would give two tables that do not compare.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [trial for trial in trials if trial.value is not None and np.isfinite(trial.value)]
    names = {name for trial in trials for name in trial.distributions}
    shared = _shared(trials)
    left_out = sorted(names - set(shared))
    if len(trials) < ENOUGH:
        return Importance(len(trials), left_out=left_out, why="too few trials to say")
    if not shared:
        return Importance(len(trials), left_out=left_out, why="no parameter that varies is in every trial")
    if len({trial.value for trial in trials}) == 1:
        return Importance(len(trials), left_out=left_out, why="all trials ended with the same value")
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    best = min(0.5, max(0.1, BEST / len(trials)))
    with _quiet():
        ped = get_param_importances(
            _study(trials, shared), evaluator=PedAnovaImportanceEvaluator(target_quantile=best), params=list(shared)
        )
        try:
            variance = fanova(trials, shared, seed)
        except RuntimeError:  # no tree of Optuna's forest found anything to divide
            return Importance(len(trials), left_out=left_out, why="the values hardly differ")
    shares = [Share(name, float(ped[name]), variance[name]) for name in shared]
    return Importance(len(trials), sorted(shares, key=lambda s: (-s.ped_anova, s.name)), best, left_out)


def fanova(trials: Sequence[FrozenTrial], shared: Mapping[str, BaseDistribution], seed: int) -> dict[str, float]:
    """Each parameter's part of the variance of a random forest's prediction over the space (Hutter et al. 2014).

    Options stand as numbers in a random order, the mean over some orders taken. Optuna gives each option a column of
    its own and goes through all 2^k values of k columns: with 40 options it would never end.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    draw = np.random.default_rng(seed)
    if len(trials) > MOST:
        trials = [trials[i] for i in sorted(draw.choice(len(trials), MOST, replace=False))]
    total = dict.fromkeys(shared, 0.0)
    for i in range(ORDERS):
        coded = _study([_coded(trial, shared, orders) for orders in [_orders(shared, draw)] for trial in trials])
        forest = FanovaImportanceEvaluator(n_trees=TREES // ORDERS, seed=seed + i)
        for name, part in get_param_importances(coded, evaluator=forest, params=list(shared), normalize=False).items():
            total[name] += float(part) / ORDERS
    return total


def table(importance: Importance) -> Table:
    """Parameter and both measures, the most important for the best trials first."""
    title = f"importance over {importance.trials} complete trials"
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold", pad_edge=False)
    shown.add_column("parameter")
    shown.add_column("PED-ANOVA", justify="right")
    shown.add_column("fANOVA", justify="right")
    for share in importance.shares:
        shown.add_row(share.name, f"{share.ped_anova:.0%}", f"{share.fanova:.0%}")
    return shown


def sentences(importance: Importance) -> list[str]:
    """What each measure means, what it leaves out, and what it cannot say."""
    if not importance.shares:
        return [f"Importance: {importance.why} ({importance.trials} complete)."]
    first, other = importance.shares[0].name, max(importance.shares, key=lambda s: s.fanova).name
    rest = 1 - sum(share.fanova for share in importance.shares)
    said = [
        f"PED-ANOVA asks what sets the best {importance.best:.0%} of the trials apart from all: {first} most. Its "
        "shares add up to 100 % even where nothing matters.",
        f"fANOVA asks what moves the objective anywhere in the space, bad configs included: {other} most. Each share "
        f"is of the variance of a fitted model; the remaining {max(rest, 0):.0%} is interaction of several parameters, "
        "or noise.",
    ]
    if first != other:
        said.append(f"The two differ: take care of {other} to avoid bad configs, of {first} to get from good to best.")
    if importance.left_out:
        said.append(
            f"Left out: {len(importance.left_out)} that not every trial has with one domain, or that do not vary (such "
            f"as {importance.left_out[0]}); the effect of an option's own parameters counts as the option's."
        )
    said.append(
        "Trials that were stopped early or failed are not in it, so what makes a config hopeless weighs too little."
    )
    return said


def _shared(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The parameters that every trial has, with one and the same domain of more than one value."""
    first = trials[0].distributions if trials else {}
    return {
        name: domain
        for name, domain in sorted(first.items())
        if not domain.single() and all(trial.distributions.get(name) == domain for trial in trials)
    }


def _study(trials: Sequence[FrozenTrial], only: Mapping[str, BaseDistribution] | None = None) -> Study:
    """A study in memory of these trials, with only these parameters where they are given."""
    study = optuna.create_study(direction="minimize")
    for trial in trials:
        domains = trial.distributions if only is None else dict(only)
        params = {name: trial.params[name] for name in domains}
        study.add_trial(create_trial(params=params, distributions=domains, value=trial.value))
    return study


def _orders(shared: Mapping[str, BaseDistribution], draw: np.random.Generator) -> dict[str, dict[Any, int]]:
    return {
        name: dict(zip(domain.choices, draw.permutation(len(domain.choices)).tolist(), strict=True))
        for name, domain in shared.items()
        if isinstance(domain, CategoricalDistribution)
    }


def _coded(
    trial: FrozenTrial, shared: Mapping[str, BaseDistribution], orders: Mapping[str, Mapping[Any, int]]
) -> FrozenTrial:
    """The trial with its options as numbers."""
    domains = {n: IntDistribution(0, len(orders[n]) - 1) if n in orders else domain for n, domain in shared.items()}
    params = {name: orders[name][trial.params[name]] if name in orders else trial.params[name] for name in shared}
    return create_trial(params=params, distributions=domains, value=trial.value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's notes on studies in memory, few trials and arguments that are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)

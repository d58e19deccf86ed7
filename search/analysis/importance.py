"""How much each choice matters to the objective, by two measures that answer different questions."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.analysis.fanova import Fanova

ENOUGH = 10  # complete trials
BEST = 5  # trials that PED-ANOVA's best part holds at least
MOST = 500  # trials that fANOVA is given
LEVEL, PERMUTATIONS = 0.05, 39  # 0.6 to 2 s for 36 to 130 trials
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """One parameter. ped_anova: its part of what sets the best trials apart; fanova: its part of the variance.

    ped_chance, fanova_chance: what chance alone gives it at most; None where that was not measured.
    """

    name: str
    ped_anova: float
    fanova: float
    ped_chance: float | None = None
    fanova_chance: float | None = None

    @property
    def ped_stands_out(self) -> bool:
        """Whether it sets the best trials apart more than chance does."""
        return self.ped_chance is not None and self.ped_anova > self.ped_chance

    @property
    def fanova_stands_out(self) -> bool:
        """Whether it moves the objective more than chance does."""
        return self.fanova_chance is not None and self.fanova > self.fanova_chance


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

    Trials that were stopped early or failed are left out, and every parameter that some trial lacks: PED-ANOVA could
    take those, which would give two tables that do not compare.
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
    values = np.array([trial.value for trial in trials], dtype=float)
    if len(set(values)) == 1:
        return Importance(len(trials), left_out=left_out, why="all trials ended with the same value")
    best = min(0.5, max(0.1, BEST / len(trials)))
    draw = np.random.default_rng(seed)
    orders = [np.arange(len(values)), *(draw.permutation(len(values)) for _ in range(PERMUTATIONS))]
    ped = divergences(trials, shared, best, [values[order] for order in orders])
    chosen = np.sort(draw.permutation(len(trials))[:MOST])
    forest = Fanova([trials[i] for i in chosen], shared, seed)
    fanova = np.array([forest.shares(values[order][chosen]) for order in orders])
    if not fanova[0].any():
        return Importance(len(trials), left_out=left_out, why="the values hardly differ")
    whole, limits = ped[0].sum(), limits_of(np.concatenate([ped, fanova], axis=1))
    columns = zip(shared, ped[0] / whole, fanova[0], limits[: len(shared)] / whole, limits[len(shared) :], strict=True)
    shares = [Share(name, *map(float, figures)) for name, *figures in columns]
    return Importance(len(trials), sorted(shares, key=lambda s: (-s.ped_anova, s.name)), best, left_out)


def divergences(
    trials: Sequence[FrozenTrial], shared: Mapping[str, BaseDistribution], best: float, values: Sequence[Array]
) -> Array:
    """PED-ANOVA's divergence of the best trials from all, (len(values), parameters), for each assignment of values."""
    from optuna.importance import PedAnovaImportanceEvaluator

    evaluator = PedAnovaImportanceEvaluator(target_quantile=best)
    with quiet():
        study = _study(trials, shared)

        def divergence(given: Array) -> list[float]:
            found = evaluator.evaluate(study, list(shared), target=lambda trial: float(given[trial.number]))
            return [found[name] for name in shared]

        return np.array([divergence(given) for given in values])


def limits_of(figures: Array) -> Array:
    """The most that chance gives each figure, of (1 + permutations, figures) whose first row is observed.

    With T = (figure - mean) / sd over all rows, so that a parameter of two options counts as one of forty, the limit of
    a figure is at the c-th largest of the permuted rows' largest T, c = LEVEL (1 + permutations). Where the values do
    not depend on the parameters, every row is as likely as any other to be the observed one, and any of its figures is
    beyond its limit with probability LEVEL at most (Westfall & Young 1993, max T).
    """
    mean, sd = figures.mean(axis=0), figures.std(axis=0)
    t = (figures - mean) / np.where(sd > 0, sd, np.inf)
    edge = np.sort(t[1:].max(axis=1))[-int(LEVEL * len(figures) + 1e-9)]
    return np.asarray(mean + edge * sd)


def _shared(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The parameters that every trial has, with one and the same domain of more than one value."""
    first = trials[0].distributions if trials else {}
    return {
        name: domain
        for name, domain in sorted(first.items())
        if not domain.single() and all(trial.distributions.get(name) == domain for trial in trials)
    }


def _study(trials: Sequence[FrozenTrial], only: Mapping[str, BaseDistribution]) -> Study:
    """A study in memory of these trials, with only these parameters."""
    study, domains = optuna.create_study(), dict(only)
    params = [{name: trial.params[name] for name in only} for trial in trials]
    study.add_trials([create_trial(params=each, distributions=domains, value=0.0) for each in params])
    return study


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's notes on studies in memory, few trials and arguments that are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)

"""CMA-ES over the numbers that all trials have, by the package cmaes, told anew from the complete trials each time.

Optuna's own CMA-ES keeps its state pickled in the study. A pickle is code, and a storage may be shared.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.storages.snapshot import Snapshot

GENERATION = "cmaes:generation"  # of a trial that was drawn by it


class CMAES(BaseSampler):
    """x ~ N(m, s^2 C) in the unit cube, from m = 1/2 and s = 1/6; what was drawn in a generation updates m, s and C.

    - n_startup_trials: complete trials before the first draw.
    - popsize: trials a generation; None: 4 + floor(3 ln d) for d numbers.
    """

    def __init__(self, *, n_startup_trials: int = 1, popsize: int | None = None, seed: int | None = None) -> None:
        import cmaes

        self.optimizer, self.seed = cmaes.CMA, seed
        self.n_startup_trials, self.popsize = n_startup_trials, popsize

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        shared = intersection_search_space(complete)
        numbers = {name: domain for name, domain in shared.items() if not isinstance(domain, CategoricalDistribution)}
        return numbers if len(complete) >= self.n_startup_trials else {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        size = len(search_space)
        optimizer = self.optimizer(
            mean=np.full(size, 0.5),
            sigma=1 / 6,
            bounds=np.array([[0.0, 1.0]] * size),
            seed=self.seed,
            population_size=self.popsize,
        )
        while len(told := self._told(complete, search_space, optimizer.generation)) >= optimizer.population_size:
            optimizer.tell(told[: optimizer.population_size])
        assert isinstance(study, Snapshot)
        study.noted[GENERATION] = optimizer.generation
        point = optimizer.ask()
        return {
            name: from_unit(domain, float(u)) for (name, domain), u in zip(search_space.items(), point, strict=True)
        }

    def _told(
        self, complete: Sequence[FrozenTrial], space: dict[str, BaseDistribution], generation: int
    ) -> list[tuple[np.ndarray, float]]:
        drawn = [trial for trial in complete if trial.system_attrs.get(GENERATION) == generation]
        points = [np.array([unit(domain, trial.params[name]) for name, domain in space.items()]) for trial in drawn]
        return [(point, float(trial.values[0])) for point, trial in zip(points, drawn, strict=True)]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return RandomSampler(self.seed).sample_independent(study, trial, param_name, param_distribution)


def _ends(domain: Any) -> tuple[float, float]:
    """The ends of a domain; of one with steps each value has half a step on both sides."""
    half = (domain.step or 0) / 2
    low, high = domain.low - half, domain.high + half
    return (math.log(low), math.log(high)) if domain.log else (low, high)


def unit(domain: Any, value: float) -> float:
    """Where a value stands in the unit interval."""
    low, high = _ends(domain)
    return ((math.log(value) if domain.log else value) - low) / (high - low)


def from_unit(domain: Any, u: float) -> Any:
    """The value at a place in the unit interval, on a step of the domain."""
    low, high = _ends(domain)
    value = low + u * (high - low)
    value = math.exp(value) if domain.log else value
    if domain.step is not None:
        value = domain.low + round((value - domain.low) / domain.step) * domain.step
    value = min(max(value, domain.low), domain.high)
    return round(value) if isinstance(domain, IntDistribution) else value

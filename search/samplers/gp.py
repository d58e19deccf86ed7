"""A Gaussian process: Optuna's, over the trials before a draw alone."""

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import (
    GPSampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.storages.snapshot import without


class GaussianProcess(GPSampler):
    """Optuna's Gaussian process, which would take the drawn trial for one of another worker after a kill."""

    shared = True

    def __init__(
        self, *, n_startup_trials: int = 10, deterministic_objective: bool = False, seed: int | None = None
    ) -> None:
        super().__init__(
            seed=seed,
            n_startup_trials=n_startup_trials,
            deterministic_objective=deterministic_objective,
            warn_independent_sampling=False,
        )

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(without(study, trial), trial, search_space)

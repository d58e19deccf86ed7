"""CMA-ES: Optuna's, over the trials before a draw alone."""

from typing import Any

from optuna.samplers import (
    CmaEsSampler,
)
from optuna.trial import FrozenTrial


class CMAES(CmaEsSampler):
    """CMA-ES, its state told anew from the complete trials: Optuna keeps it pickled in the study, which is code."""

    shared = numbers = True

    def __init__(self, *, n_startup_trials: int = 1, popsize: int | None = None, seed: int | None = None) -> None:
        import cmaes  # noqa: F401  # missing, it is missed now and not after the first trial

        super().__init__(n_startup_trials=n_startup_trials, popsize=popsize, seed=seed, warn_independent_sampling=False)

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        self.completed = completed_trials

    def _init_optimizer(self, trans: Any, direction: Any) -> Any:
        optimizer = super()._init_optimizer(trans, direction)
        sign = 1.0 if direction.name == "MINIMIZE" else -1.0
        while True:
            told = self._get_solution_trials(self.completed, optimizer.generation)[: optimizer.population_size]
            if len(told) < optimizer.population_size:
                return optimizer
            optimizer.tell([(trans.transform(each.params), sign * float(each.value or 0.0)) for each in told])

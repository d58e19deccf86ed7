"""NSGA-II: Optuna's, its generations told by the trials' numbers."""

from optuna.samplers import (
    NSGAIISampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial


class NSGA2(NSGAIISampler):
    """Optuna's NSGA-II, with the baseline and the known starts in the first generation too."""

    shared = True

    def __init__(
        self,
        *,
        population_size: int = 50,
        mutation_prob: float | None = None,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            population_size=population_size,
            mutation_prob=mutation_prob,
            crossover_prob=crossover_prob,
            swapping_prob=swapping_prob,
            seed=seed,
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.get_trial_generation(study, trial)

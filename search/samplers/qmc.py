"""Quasi-random points: Optuna's Sobol sequence, one point a trial."""

from optuna.distributions import BaseDistribution
from optuna.samplers import (
    QMCSampler,
    RandomSampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.storages.snapshot import without


class Sobol(QMCSampler):
    """Point k of one low-discrepancy sequence, k the number of trials before that were not given whole."""

    shared = True

    def __init__(
        self, *, qmc_type: str = "sobol", scramble: bool = True, seed: int | None = None, search_seed: int | None = None
    ) -> None:
        super().__init__(
            qmc_type=qmc_type,
            scramble=scramble,
            seed=search_seed,
            independent_sampler=RandomSampler(seed),
            warn_independent_sampling=False,
        )
        self.number = 0

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self.number = trial.number
        return super().infer_relative_search_space(without(study, trial), trial)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        before = (trial for trial in study.get_trials(deepcopy=False) if trial.number < self.number)
        return sum(not set(trial.params) <= set(trial.system_attrs.get("fixed_params", ())) for trial in before)

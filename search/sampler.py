"""A sampler whose draws are keyed by the trial's number, so a search that was killed goes on as if it had not been."""

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from denoise.randomness import key


class KeyedSampler(BaseSampler):
    """For each trial a fresh sampler, seeded by (seed, the trial's number).

    What it draws then depends on the trials before it alone, and on nothing that a process remembers.
    `make` takes a seed below 2^32 and gives any of Optuna's samplers; `round` gives what keys a trial's draws in the
    place of its number, `history` the study as the sampler is to see it.
    """

    def __init__(
        self,
        make: Callable[[int], BaseSampler],
        seed: int,
        round: Callable[[FrozenTrial], int] | None = None,
        history: Callable[[Study, FrozenTrial], Study] | None = None,
    ) -> None:
        self.make, self.seed = make, seed
        self.round = round or (lambda trial: trial.number)
        self.history = history or (lambda study, trial: study)
        self.current: tuple[int, BaseSampler] | None = None

    def inner(self, trial: FrozenTrial) -> BaseSampler:
        if self.current is None or self.current[0] != trial.number:
            self.current = (trial.number, self.make(key(self.seed, "sampler", self.round(trial)) % 2**32))
        return self.current[1]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner(trial).infer_relative_search_space(self.history(study, trial), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner(trial).sample_relative(self.history(study, trial), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.inner(trial).sample_independent(self.history(study, trial), trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.inner(trial).before_trial(self.history(study, trial), trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.inner(trial).after_trial(self.history(study, trial), trial, state, values)

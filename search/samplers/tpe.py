"""The samplers of conf/sampler/ that are not Optuna's as they are: each draw depends on the trials before it alone."""

import copy
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import (
    RandomSampler,
    TPESampler,
)
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_gamma_multiobjective
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from denoise.randomness import key


class TPE(TPESampler):
    """Optuna's TPE, each parameter alone or by groups, drawn when one of its parameters is asked for.

    A group is the parameters that occur in the same trials: the choices that each trial makes, the parameters of one
    option. Optuna's own `group=True` draws every group for every trial, those of options that are not chosen too: with
    a hundred options a hundred models, of which a trial needs five. The draw of a group is keyed by its names.
    A failed trial is learnt from as one of the worst; Optuna's own TPE does not see it, and draws there again.
    """

    keyed = True  # whatever was drawn before, and in whichever process

    def __init__(
        self, *, n_startup_trials: int = 10, n_ei_candidates: int = 24, groups: bool = True, trial_seed: int = 0
    ) -> None:
        super().__init__(n_startup_trials=n_startup_trials, n_ei_candidates=n_ei_candidates, seed=trial_seed)
        self.trial_seed, self.groups = trial_seed, groups
        self.learnt: list[FrozenTrial] | None = None
        self.split: tuple[list[FrozenTrial], list[FrozenTrial]] | None = None
        self.drawn: dict[str, Any] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        learnt = self._learnt(study)
        if len(learnt) < self._n_startup_trials:
            seed = key(self.trial_seed, param_name) % 2**32
            return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)
        if param_name not in self.drawn:
            together = (group(learnt, param_name) if self.groups else {}) or {param_name: param_distribution}
            self._rng.rng.seed(key(self.trial_seed, " ".join(together)) % 2**32)
            self.drawn |= self._sample(study, trial, together)
        return self.drawn[param_name]

    def _learnt(self, study: Study) -> list[FrozenTrial]:
        """The finished trials, read once."""
        if self.learnt is None:
            known = study.get_trials(deepcopy=False)
            self.learnt = [_as_pruned(other) for other in known if other.state.is_finished()]
        return self.learnt

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """argmax l(x) / g(x) over draws from l, l and g the densities of the good trials and of the others."""
        if self.split is None:
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            learnt = self._learnt(study)
            several = study._is_multi_objective()
            gamma = default_gamma_multiobjective if several else default_gamma
            trials = learnt + [other for other in running if other.number != trial.number]
            self.split = _split_trials(study, trials, gamma(len(learnt)))
        good, others = (
            self._build_parzen_estimator(study, search_space, part, handle_below=below)
            for part, below in zip(self.split, (True, False), strict=True)
        )
        candidates = good.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(candidates, self._compute_acquisition_func(candidates, good, others))
        return {name: domain.to_external_repr(best[name]) for name, domain in search_space.items()}


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    """A failed trial as one that was pruned before it reported anything, which is the worst there is."""
    if trial.state != TrialState.FAIL:
        return trial
    worst = copy.copy(trial)
    worst.state, worst.intermediate_values = TrialState.PRUNED, {}
    return worst


def group(trials: list[FrozenTrial], name: str) -> dict[str, BaseDistribution]:
    """The parameters that occur in the same trials as `name`, by name; none where no trial has it."""
    together: dict[str, BaseDistribution] = {}
    apart: set[str] = set()
    first = True
    for trial in trials:
        found = trial.distributions
        if name not in found:
            apart.update(found)
        elif first:
            together, first = dict(found), False
        else:
            together = {other: domain for other, domain in together.items() if other in found}
    return {other: together[other] for other in sorted(together) if other not in apart and not together[other].single()}

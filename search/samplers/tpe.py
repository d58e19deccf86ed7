"""The samplers of conf/sampler/ that are not Optuna's as they are: each draw depends on the trials before it alone."""

import copy
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_gamma_multiobjective
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from denoise.randomness import key
from search.storages.snapshot import View


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


class BruteForce(BruteForceSampler):
    """Every point of a space that can be listed, in random order, each once."""

    lists = True

    def __init__(self, *, seed: int | None = None) -> None:
        super().__init__(seed=seed)

    @staticmethod
    def _populate_tree(tree: Any, trials: list[FrozenTrial], params: dict[str, Any]) -> None:
        """As Optuna's, without the parameters of one value: a number without a step cannot be listed."""
        BruteForceSampler._populate_tree(tree, [_without_constants(trial) for trial in trials], params)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Nothing: Optuna would end `optimize` here, which no search of ours runs in."""


def without(study: Study, trial: FrozenTrial) -> View:
    """The study with this trial taken away."""
    return View(study, lambda other: other.number != trial.number)


def _without_constants(trial: FrozenTrial) -> FrozenTrial:
    varied = {name: domain for name, domain in trial.distributions.items() if not domain.single()}
    return FrozenTrial(
        number=trial.number,
        state=trial.state,
        value=None,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=trial.params,
        distributions=varied,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=trial._trial_id,
    )

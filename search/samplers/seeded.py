"""A sampler whose draws are keyed by the trial's number, so a search that was killed goes on as if it had not been."""

import math
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from denoise.randomness import key
from search.storages.ledger import Ledger, earlier, under_way
from search.storages.snapshot import still

Make = Callable[[Mapping[str, int]], BaseSampler]
Round = Callable[[FrozenTrial], int]
See = Callable[[Study, FrozenTrial], Study]
Place = tuple[int, int, float, int]


class KeyedSampler(BaseSampler):
    """For each trial a fresh sampler, and for each parameter that it draws by itself another one.

    What is drawn then depends on the trials before and on the parameter's name alone: on nothing that a process
    remembers, nor on which parameters were drawn before a kill.
    `make` is given three seeds below 2^32 and takes what its sampler has a parameter for: `seed` of the draw,
    `trial_seed` and `search_seed`. `history` bounds what the sampler learns from (see `Informative`); `round` gives
    what keys a trial's draws in the place of its number, `see` the study as it is to be seen for a trial. What the
    latest `lag` - 1 trials before it came to is not seen, so it does not matter whether they are over.
    """

    def __init__(
        self,
        make: Make,
        seed: int,
        history: int | None = None,
        round: Round | None = None,
        see: See | None = None,
        lag: Callable[[], int] = lambda: 1,
    ) -> None:
        self.make, self.seed, self.history, self.lag = make, seed, history, lag
        self.round: Round = round or (lambda trial: trial.number)
        self.see: See = see or (lambda study, trial: study)
        self.informative: Informative | None = None
        self.current: tuple[int, Study, BaseSampler] | None = None

    def fresh(self, number: int, what: str = "") -> BaseSampler:
        """The sampler of one trial, or of one parameter of it."""
        names = {"seed": f"sampler/{what}", "trial_seed": "sampler", "search_seed": "sampler"}
        numbers = {"seed": number, "trial_seed": number, "search_seed": -1}
        return self.make({name: key(self.seed, names[name], numbers[name]) % 2**32 for name in names})

    def seen(self, study: Study, trial: FrozenTrial) -> tuple[Study, BaseSampler]:
        """What this trial's draws see of the study, and its sampler."""
        if self.current is None or self.current[0] != trial.number:
            trials = self.see(study, trial).get_trials(deepcopy=False)
            known, upto = earlier(trials, trial.number - self.lag()), earlier(trials, trial.number)
            if self.informative is None:
                self.informative = Informative(self.history, study.directions)
            seen = self.informative.of(trials[:known])
            seen += [each if each.number == trial.number else under_way(each) for each in trials[known:upto]]
            self.current = (trial.number, self.see(still(study, seen), trial), self.fresh(self.round(trial)))
        return self.current[1:]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        view, inner = self.seen(study, trial)
        return inner.infer_relative_search_space(view, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        view, inner = self.seen(study, trial)
        return inner.sample_relative(view, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        view, inner = self.seen(study, trial)
        drawing = inner if getattr(inner, "keyed", False) else self.fresh(self.round(trial), param_name)
        return drawing.sample_independent(view, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.current = None
        view, inner = self.seen(study, trial)
        inner.before_trial(view, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.fresh(self.round(trial)).after_trial(study, trial, state, values)


class Informative(Ledger):
    """Of finished trials the best half of `most` and the latest half; all where there are no more.

    With several objectives each has its part of the best. Best: complete before pruned, then those pruned latest, then
    by value; failed ones last.
    """

    def __init__(self, most: int | None, directions: Sequence[StudyDirection]) -> None:
        self.most, self.directions = most, directions
        super().__init__()

    def clear(self) -> None:
        self.by_id: dict[int, FrozenTrial] = {}
        self.best: list[list[Place]] = [[] for _ in self.directions]

    def take(self, trial: FrozenTrial) -> None:
        self.by_id[trial._trial_id] = trial
        for best, place in zip(self.best, _places(trial, self.directions), strict=True):
            insort(best, place)

    def of(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those to learn from, in their order."""
        if self.most is None or len(trials) <= self.most:
            return list(trials)
        self.read(trials)
        each = self.most // 2 // len(self.best)
        kept = {place[-1] for best in self.best for place in best[:each]}
        for trial in reversed(trials):
            if len(kept) >= self.most:
                break
            kept.add(trial._trial_id)
        return [self.by_id[trial_id] for trial_id in sorted(kept)]


def _places(trial: FrozenTrial, directions: Sequence[StudyDirection]) -> list[Place]:
    """For each objective what a better trial has less of, and the trial's id: ids are in the order of numbers."""
    signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions]
    if trial.state == TrialState.COMPLETE:
        return [(0, 0, sign * value, trial._trial_id) for sign, value in zip(signs, trial.values, strict=True)]
    if trial.state == TrialState.FAIL:
        return [(2, 0, math.inf, trial._trial_id) for _ in signs]
    curve = trial.intermediate_values
    step = max(curve, default=-1)
    value = curve.get(step, math.inf)
    return [(1, -step, math.inf if math.isnan(value) else sign * value, trial._trial_id) for sign in signs]

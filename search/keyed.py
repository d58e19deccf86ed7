"""A sampler whose draws are keyed by the trial's number, so a search that was killed goes on as if it had not been."""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from denoise.randomness import key
from search.view import still

Make = Callable[[Mapping[str, int]], BaseSampler]
Round = Callable[[FrozenTrial], int]
See = Callable[[Study, FrozenTrial], Study]
Place = tuple[int, int, float, int]


class KeyedSampler(BaseSampler):
    """For each trial a fresh sampler, and for each parameter that it draws by itself another one.

    What is drawn then depends on the trials before and on the parameter's name alone: on nothing that a process
    remembers, nor on which parameters were drawn before a kill.
    `make` is given three seeds below 2^32 and takes what its sampler has a parameter for: `seed` of the draw,
    `trial_seed` and `search_seed`. `history` bounds what the sampler learns from (see `informative`); `round` gives
    what keys a trial's draws in the place of its number, `see` the study as it is to be seen for a trial.
    """

    def __init__(
        self, make: Make, seed: int, history: int | None = None, round: Round | None = None, see: See | None = None
    ) -> None:
        self.make, self.seed, self.history = make, seed, history
        self.round: Round = round or (lambda trial: trial.number)
        self.see: See = see or (lambda study, trial: study)
        self.places: dict[int, list[Place]] = {}  # of finished trials, which keep it
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
            view = still(study, informative(trials, study.directions, self.history, self.places))
            self.current = (trial.number, self.see(view, trial), self.fresh(self.round(trial)))
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
        self.fresh(self.round(trial)).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.fresh(self.round(trial)).after_trial(study, trial, state, values)


def informative(
    trials: Sequence[FrozenTrial],
    directions: Sequence[StudyDirection],
    most: int | None,
    places: dict[int, list[Place]] | None = None,
) -> list[FrozenTrial]:
    """Of the finished trials the best half of `most` and the latest half; all where there are no more.

    Trials under way stay. With several objectives each has its part of the best. Best: complete before pruned, then
    those pruned latest, then by value; failed ones last. `places` keeps what was found out, by trial id.
    """
    if most is None or len(trials) <= most:
        return list(trials)
    places = {} if places is None else places
    done = []
    for trial in trials:
        if trial.state.is_finished():
            place = places.get(trial._trial_id)
            if place is None:
                place = places[trial._trial_id] = _places(trial, directions)
            done.append(place)
    if len(done) <= most:
        return list(trials)
    best: set[int] = set()
    for k in range(len(directions)):
        best |= {place[-1] for place in heapq.nsmallest(most // 2 // len(directions), [each[k] for each in done])}
    latest = [each[0][-1] for each in done[-most:] if each[0][-1] not in best][len(best) - most :]
    kept = best.union(latest)
    return [trial for trial in trials if trial._trial_id in kept or not trial.state.is_finished()]


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

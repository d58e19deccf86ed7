"""A trial drawn whole from the trials before it: the same trials give the same draw, in any process."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from denoise.randomness import key
from search.space.search_space import Choose
from search.storages.snapshot import Snapshot, seen
from search.storages.trials import earlier

Make = Callable[[Mapping[str, int]], BaseSampler]
PRUNERS = "completed_rung_"  # of a trial, the system attributes that no sampler reads
OF_STUDY = "sampler:study"  # of a trial, a system attribute: what its draw noted of the whole study


@dataclass(frozen=True)
class Drawn:
    """A trial that is to be begun: its overrides, its parameters, and what the sampler is to find with it later."""

    overrides: list[str]
    params: dict[str, Any]
    domains: dict[str, BaseDistribution]
    noted: dict[str, Any]


class SeededSampler:
    """Draws with a fresh sampler for each trial, and another one for each parameter that is drawn by itself.

    `make` is given seeds below 2^32 and takes those that its sampler has a parameter for: `seed`, of this draw, and
    `search_seed`, of all trials. `history` bounds what is learnt from (see `informative`).
    """

    def __init__(self, make: Make, seed: int, directions: Sequence[StudyDirection], history: int | None = None) -> None:
        self.make, self.seed, self.directions, self.history = make, seed, list(directions), history
        self.over: dict[int, FrozenTrial] = {}  # finished trials as a sampler sees them: they do not change

    def fresh(self, number: int, parameter: str = "") -> BaseSampler:
        """The sampler of the draws of one number, or of one parameter in them."""
        trial = key(self.seed, "sampler", number) % 2**32
        drawn = key(trial, parameter) % 2**32 if parameter else trial
        with warnings.catch_warnings():  # half of Optuna's samplers are marked experimental, some for years
            warnings.simplefilter("ignore")
            return self.make({"seed": drawn, "search_seed": key(self.seed, "sampler", -1) % 2**32})

    def draw(
        self,
        suggest: Callable[[Choose], list[str]],
        trials: Sequence[FrozenTrial],
        number: int,
        lag: int = 1,
        fixed: Mapping[str, Any] | None = None,
        keyed: int | None = None,
    ) -> Drawn:
        """Draw trial `number`: `suggest` asks for each of its parameters, those in `fixed` are not drawn.

        Of `trials` (all that may be known, in order) the results of the latest `lag` - 1 before it are not seen, so it
        does not matter whether they are over. `keyed` takes the place of the number in what keys the random numbers.
        """
        given, keyed = fixed or {}, number if keyed is None else keyed
        before = trials[: earlier(trials, number - 1)]
        attrs: dict[str, Any] = {}
        for trial in before:
            attrs |= trial.system_attrs.get(OF_STUDY, {})
        new = create_trial(state=TrialState.RUNNING)
        new.number = number
        new = seen(new)
        study = Snapshot([*self._seen(before, number - lag), new], self.directions, "search", attrs)
        params: dict[str, Any] = {}
        domains: dict[str, BaseDistribution] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ask = _Asking(self, study, new, keyed)

            def choose(name: str, domain: BaseDistribution) -> Any:
                value = given[name] if name in given else ask(name, domain)
                params[name], domains[name] = value, domain
                return value

            overrides = suggest(choose)
        of_study = {name: value for name, value in study.study_attrs.items() if attrs.get(name) != value}
        return Drawn(overrides, params, domains, study.noted | ({OF_STUDY: of_study} if of_study else {}))

    def _seen(self, before: Sequence[FrozenTrial], last: int) -> list[FrozenTrial]:
        """The trials before a draw as its sampler sees them: those after number `last` as under way."""
        known = earlier(before, last)
        for trial in before[:known]:
            if trial.number not in self.over:
                self.over[trial.number] = _finished(trial)
        learnt = informative([self.over[trial.number] for trial in before[:known]], self.history, self.directions)
        return [*learnt, *(_under_way(trial) for trial in before[known:])]


class _Asking:
    """A parameter at a time, as Optuna's own trials ask: first what is drawn together, when something is drawn."""

    def __init__(self, sampler: SeededSampler, study: Snapshot, new: FrozenTrial, keyed: int) -> None:
        self.sampler, self.study, self.new, self.keyed = sampler, study, new, keyed
        self.inner = sampler.fresh(keyed)
        self.inner.before_trial(study, new)
        self.space: dict[str, BaseDistribution] | None = None
        self.together: dict[str, Any] = {}

    def __call__(self, name: str, domain: BaseDistribution) -> Any:
        if domain.single():
            return _only(domain)
        if self.space is None:
            self.space = self.inner.infer_relative_search_space(self.study, self.new)
            self.together = self.inner.sample_relative(self.study, self.new, self.space)
        if name in self.together and self.space.get(name) == domain:
            value = self.together[name]
        else:
            alone = self.sampler.fresh(self.keyed, name)
            value = alone.sample_independent(self.study, self.new, name, domain)
        self.new.params = {**self.new.params, name: value}
        self.new.distributions = {**self.new.distributions, name: domain}
        return value


def _only(domain: BaseDistribution) -> Any:
    """The value of a domain that has one."""
    values: Any = domain
    return values.choices[0] if hasattr(values, "choices") else values.low


def _varied(trial: FrozenTrial) -> dict[str, Any]:
    return {name: value for name, value in trial.params.items() if not trial.distributions[name].single()}


def _finished(trial: FrozenTrial) -> FrozenTrial:
    """A finished trial for a sampler: one that failed is the worst of those that were stopped."""
    attrs = {name: value for name, value in trial.system_attrs.items() if not name.startswith(PRUNERS)}
    if trial.state != TrialState.FAIL:
        return seen(trial, params=_varied(trial), attrs=attrs)
    return seen(trial, params=_varied(trial), attrs=attrs, state=TrialState.PRUNED, curve={})


def _under_way(trial: FrozenTrial) -> FrozenTrial:
    return seen(trial, params=_varied(trial), state=TrialState.RUNNING, curve={})


def informative(
    trials: Sequence[FrozenTrial], most: int | None, directions: Sequence[StudyDirection]
) -> list[FrozenTrial]:
    """Of finished trials the best half of `most` and the latest half; all where there are no more. In their order.

    With several objectives each has its part of the best. Best: complete before pruned, then those pruned latest, then
    by value; failed ones last.
    """
    if most is None or len(trials) <= most:
        return list(trials)
    each = most // 2 // len(directions)
    kept: set[int] = set()
    for objective, direction in enumerate(directions):
        sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        ranked = sorted(trials, key=lambda trial, at=objective, sign=sign: _place(trial, at, sign))  # type: ignore[misc]
        kept |= {trial.number for trial in ranked[:each]}
    for trial in reversed(trials):
        if len(kept) >= most:
            break
        kept.add(trial.number)
    return [trial for trial in trials if trial.number in kept]


def _place(trial: FrozenTrial, objective: int, sign: float) -> tuple[int, int, float, int]:
    """What a better trial has less of."""
    if trial.state == TrialState.COMPLETE:
        return (0, 0, sign * trial.values[objective], trial.number)
    curve = trial.intermediate_values
    step = max(curve, default=-1)
    value = curve.get(step, math.inf)
    return (1, -step, math.inf if math.isnan(value) else sign * value, trial.number)

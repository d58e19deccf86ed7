"""The trials of a study, written by number: a trial is inserted whole, reports, and is told."""

import time
from bisect import bisect_right
from collections.abc import Callable, Container, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import Study, StudySummary
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.runtime.retry import tried_again
from search.storages.attributes import OfTrial

OVER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
CONFIRM = "-confirm"  # what is behind a search's name in that of the study of its confirmation
P = ParamSpec("P")
R = TypeVar("R")


def patient(call: "Callable[Concatenate[Trials, P], R]") -> "Callable[Concatenate[Trials, P], R]":
    """A method that is called again while the storage does not answer."""
    return wraps(call)(tried_again(call, "the storage"))


class Trials(Study):
    """A study whose trials are written by number, by Optuna's public API alone.

    - Each write is one transaction, and may be made twice: a reply that was lost is no second trial.
    - While the storage does not answer a call waits (search/runtime/retry.py).
    """

    def __init__(self, study_name: str, storage: BaseStorage) -> None:
        super().__init__(study_name, storage)
        self.storage = storage
        self.id = storage.get_study_id_from_name(study_name)
        self._ids: dict[int, int] = {}

    @patient
    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return super().get_trials(deepcopy, states)

    @property
    def user_attrs(self) -> dict[str, Any]:
        return tried_again(self.storage.get_study_user_attrs, "the storage")(self.id)

    @patient
    def set_user_attr(self, key: str, value: Any) -> None:
        self.storage.set_study_user_attr(self.id, key, value)

    @patient
    def others(self) -> list[StudySummary]:
        """The studies of the other searches in the storage."""
        found = optuna.get_all_study_summaries(self.storage, include_best_trial=False)
        return [s for s in found if s.study_name != self.study_name and not s.study_name.endswith(CONFIRM)]

    @patient
    def other(self, name: str) -> "Trials":
        """Another study of the storage."""
        return Trials(name, self.storage)

    @patient
    def insert(
        self,
        number: int,
        params: Mapping[str, Any],
        domains: Mapping[str, BaseDistribution],
        attrs: Mapping[str, Any],
        noted: Mapping[str, Any],
    ) -> FrozenTrial:
        """Begin trial `number`, the next one: all of it or nothing. `noted` is what the sampler keeps with it.

        The caller holds the search's lock, so no other process inserts meanwhile.
        """
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(domains),
            user_attrs={**attrs, OfTrial.BEAT: time.time()},
            system_attrs=dict(noted),
        )
        trial.number = number
        try:
            self._of(number)
        except KeyError:
            self._ids[number] = self.storage.create_new_trial(self.id, trial)
        return trial

    @patient
    def trial(self, number: int) -> FrozenTrial:
        """Trial `number` as it is now."""
        return self.storage.get_trial(self._of(number))

    @patient
    def report(self, number: int, step: int, value: float) -> None:
        """Note a trial's objective at a step."""
        self.storage.set_trial_intermediate_value(self._of(number), step, value)

    @patient
    def note(self, number: int, attrs: Mapping[str, Any]) -> None:
        """Set user attributes of a trial."""
        for key, value in attrs.items():
            self.storage.set_trial_user_attr(self._of(number), key, value)

    @patient
    def note_for_optuna(self, number: int, attrs: Mapping[str, Any]) -> None:
        """Set system attributes of a trial: what a sampler or a pruner of Optuna's keeps with it."""
        for key, value in attrs.items():
            self.storage.set_trial_system_attr(self._of(number), key, value)

    def constrain(self, number: int, values: Mapping[str, float]) -> None:
        """Note a trial's constraints, each kept where it is not above zero."""
        self.note_for_optuna(number, create_trial(state=TrialState.RUNNING, constraints=dict(values)).system_attrs)

    def beat(self, number: int) -> None:
        """Say that the worker of a trial lives."""
        self.note(number, {OfTrial.BEAT: time.time()})

    @patient
    def end(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        """Tell a trial; one that is told stays as it is."""
        self.tell(number, values, state, skip_if_finished=True)

    def _of(self, number: int) -> int:
        """The storage's id of a trial."""
        if number not in self._ids:
            self._ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self.id, number)
        return self._ids[number]


def earlier(trials: Sequence[FrozenTrial], number: int) -> int:
    """How many of some trials, in order of their numbers, have this number or one before it."""
    return bisect_right(trials, number, key=lambda trial: trial.number)


def twin(trials: Sequence[FrozenTrial], sha256: str, last: int) -> FrozenTrial | None:
    """The first complete trial of a config, by its hash, of those up to number `last`; None where there is none."""
    for trial in trials[: earlier(trials, last)]:
        if trial.state == TrialState.COMPLETE and trial.user_attrs.get(OfTrial.CONFIG_SHA256) == sha256:
            return trial
    return None

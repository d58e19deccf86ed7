"""A study of which only some trials are seen, for what takes a study: a sampler, a pruner, a plot."""

import copy
from collections.abc import Callable, Container
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

Keep = Callable[[FrozenTrial], bool]


class View(Study):
    """The trials of `study` that `keep` keeps, in everything that reads trials; writing goes to the study.

    It is read anew by each call, or with `once` by the first alone: the study as it was then, for a view that lives no
    longer than one question (a sampler asks for the trials once for each group of parameters that it draws). The
    trials are not to be changed. A view of a view shows what both keep.
    """

    def __init__(self, study: Study, keep: Keep, once: bool = False) -> None:
        self.__dict__.update(object.__getattribute__(study, "__dict__"))  # Hyperband's own studies refuse it otherwise
        self._thread_local = type(study._thread_local)()
        self._storage: Any = _Kept(study._storage, study._study_id, keep, once)


def still(study: Study, trials: list[FrozenTrial]) -> View:
    """The study with these trials and no others, whatever happens in it later."""
    view = View(study, lambda trial: True, once=True)
    view._storage.read = trials
    return view


class _Kept:
    """A storage that shows of one study's trials those that `keep` keeps, since some of Optuna asks the storage."""

    def __init__(self, storage: BaseStorage, study_id: int, keep: Keep, once: bool) -> None:
        self.storage, self.study_id, self.keep, self.once = storage, study_id, keep, once
        self.read: list[FrozenTrial] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if study_id != self.study_id:
            return self.storage.get_all_trials(study_id, deepcopy, states)
        kept = self.read
        if kept is None:
            kept = [trial for trial in self.storage.get_all_trials(study_id, deepcopy=False) if self.keep(trial)]
            self.read = kept if self.once else None
        found = kept if states is None else [trial for trial in kept if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_n_trials(self, study_id: int, state: Any = None) -> int:
        states = (state,) if isinstance(state, TrialState) else state
        return len(self.get_all_trials(study_id, deepcopy=False, states=states))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The best complete trial that is seen. Errors: ValueError where there is none, as in Optuna's storages."""
        directions = self.storage.get_study_directions(study_id)
        if len(directions) > 1:
            raise RuntimeError("a study of several objectives has no best trial")
        complete = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise ValueError("No trials are completed yet.")
        sign = -1.0 if directions[0].name == "MAXIMIZE" else 1.0
        return min(complete, key=lambda trial: sign * float(trial.value or 0.0))


def without(study: Study, trial: FrozenTrial) -> View:
    """The study with this trial taken away."""
    return View(study, lambda other: other.number != trial.number)

"""A study of given trials, for what takes a study: a sampler, a pruner, a plot. What it writes is kept aside."""

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState


class Snapshot(Study):
    """The given trials and no others. `noted`: what was noted of a trial, `study_attrs`: what was noted of the study.

    Errors: RuntimeError for any other write.
    """

    def __init__(
        self,
        trials: Sequence[FrozenTrial],
        directions: Sequence[StudyDirection] = (StudyDirection.MINIMIZE,),
        name: str = "",
        study_attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.storage = _Given(trials, directions, name, dict(study_attrs or {}))
        super().__init__(name, self.storage)

    @property
    def direction(self) -> StudyDirection:
        """Of the first objective, which is what is reported: Optuna's samplers rank stopped trials by it."""
        return self.directions[0]

    @property
    def noted(self) -> dict[str, Any]:
        """What a sampler or a pruner noted of the trial that it was asked about."""
        return self.storage.noted

    @property
    def study_attrs(self) -> dict[str, Any]:
        """What is noted of the study, what was given included."""
        return self.storage.study_attrs


def seen(
    trial: FrozenTrial,
    *,
    state: TrialState | None = None,
    params: Mapping[str, Any] | None = None,
    curve: Mapping[int, float] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """A trial as it is to be seen in a snapshot: the same, but for what is given here; its id is its number."""
    state = trial.state if state is None else state
    params = trial.params if params is None else params
    running = state == TrialState.RUNNING
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=state,
        value=None,
        values=None if running or state == TrialState.FAIL else trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=None if running else trial.datetime_complete,
        params=dict(params),
        distributions={name: trial.distributions[name] for name in params},
        user_attrs=trial.user_attrs,
        system_attrs=dict(trial.system_attrs if attrs is None else attrs),
        intermediate_values=dict(trial.intermediate_values if curve is None else curve),
    )


class _Given(BaseStorage):
    """A storage of one study's given trials."""

    def __init__(
        self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], name: str, attrs: dict[str, Any]
    ) -> None:
        self.trials, self.directions, self.name, self.study_attrs = list(trials), list(directions), name, attrs
        self.noted: dict[str, Any] = {}

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_name_from_id(self, study_id: int) -> str:
        return self.name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self.directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.study_attrs

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = [trial for trial in self.trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        for trial in self.trials:
            if trial.number == trial_id:
                return trial
        raise KeyError(f"no trial {trial_id} in this snapshot")

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.noted[key] = value

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.study_attrs[key] = value

    def _refuse(self, *given: Any, **more: Any) -> Any:
        raise RuntimeError("a snapshot of a study is not written")

    create_new_study = delete_study = get_all_studies = set_study_user_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = _refuse
    set_trial_intermediate_value = set_trial_user_attr = _refuse

"""Each point of a grid once: Optuna's brute force, over the trials before a draw alone."""

from typing import Any

from optuna.samplers import (
    BruteForceSampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


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

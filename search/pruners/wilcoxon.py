"""Wilcoxon's signed-rank test against the best trial: Optuna's."""

import warnings

from optuna.pruners import WilcoxonPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.storages.snapshot import View


class Wilcoxon(WilcoxonPruner):
    """Optuna's, against the best trial that has a curve: a repeated trial was not trained and has none."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        curves = View(study, lambda other: other.state != TrialState.COMPLETE or bool(other.intermediate_values))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # steps that only one of the two has are left out
            return super().prune(curves, trial)

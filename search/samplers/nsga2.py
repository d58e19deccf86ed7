"""NSGA-II: Optuna's, with the known starts in its first generation."""

from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class NSGA2(NSGAIISampler):
    """Optuna's NSGA-II; a trial that is given, such as the baseline, is of a generation too."""

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.get_trial_generation(study, trial)

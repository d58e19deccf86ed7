"""The states of trials: those that are over, and those that were begun."""

from optuna.trial import TrialState

OVER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
BEGUN = (*OVER, TrialState.RUNNING)

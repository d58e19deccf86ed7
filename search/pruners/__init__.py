"""The pruners of conf/pruner that are not Optuna's as they are."""

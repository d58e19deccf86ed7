"""What a process that runs a verb needs, imported once."""

import warnings
from importlib import import_module

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for name in (
        *("lightning", "optuna", "mlflow.store.db.utils", "mlflow.store.tracking.sqlalchemy_store"),
        *("denoise.training.train", "search.cli.commands", "search.study.loop", "search.confirmation.trainings"),
    ):
        import_module(name)

"""Optuna's storage: the database, whose a running trial is, one process at a time."""

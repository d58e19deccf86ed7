"""One training that is tracked: run, named by its config, reproduced."""

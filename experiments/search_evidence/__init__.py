"""Evidence for the default strategy: a table of real trainings, and search strategies replayed on it."""

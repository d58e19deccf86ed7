"""A report as it is read: on a terminal, as a page, as MLflow's description of the search's run."""

"""MLflow: runs, their records and files. Only what serves it or upgrades its tables talks to it elsewhere."""

"""MLflow: runs, their records and files. Nothing else talks to it."""

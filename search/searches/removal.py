"""Remove runs from MLflow for good, and the versions of registered models that are made of them."""

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from denoise.fault import Outside
from search.tracking.registered import absent
from search.tracking.tracker import Tracker


def versions(books: Tracker, run_ids: Sequence[str]) -> list[Any]:
    """The versions of registered models that these runs made."""
    asked, found = set(run_ids), []
    for model in books.client.search_registered_models():
        found += [one for one in books.client.search_model_versions(f"name='{model.name}'") if one.run_id in asked]
    return found


def champions(books: Tracker, run_ids: Sequence[str]) -> list[str]:
    """The registered models whose champion is one of these runs."""
    names = []
    for name in dict.fromkeys(str(one.name) for one in versions(books, run_ids)):
        with absent():  # a model without a champion
            if books.client.get_model_version_by_alias(name, "champion").run_id in run_ids:
                names.append(name)
    return names


def remove(books: Tracker, run_ids: Sequence[str]) -> str:
    """Remove runs, what they were tagged and measured, and their models; what is left to do, in a line, or nothing.

    In a database of this machine they are gone for good. A server marks them as deleted, and keeps them until its
    `mlflow gc`. Errors: Outside where MLflow's command does not do it.
    """
    for version in versions(books, run_ids):
        books.client.delete_model_version(version.name, version.version)
        if not books.client.search_model_versions(f"name='{version.name}'"):
            books.client.delete_registered_model(version.name)
    for run_id in run_ids:
        with absent():  # deleted already
            books.client.delete_run(run_id)
    if not books.local:
        return f"{books.place} keeps runs that are deleted until mlflow gc is run there"
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    asked = ["gc", "--backend-store-uri", books.uri, "--tracking-uri", books.uri, "--run-ids", ",".join(run_ids)]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *asked], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Outside(f"mlflow gc: {(done.stderr.strip().splitlines() or ['no word'])[-1][:300]}")
    return ""

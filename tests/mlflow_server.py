"""A real MLflow server, in a process of its own."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.tracking.tracker import Tracker
from tests.process import PATIENCE, free_port, until


def answers(address: str) -> bool:
    """Whether a server says that it is well."""
    try:
        return bool(urllib.request.urlopen(address, timeout=PATIENCE).status == 200)
    except OSError:
        return False


@contextmanager
def serving(folder: Path, artifacts: Path) -> Iterator[str]:
    """Its address, while it runs: its database and its log in `folder`, the files of runs in `artifacts`."""
    database = f"sqlite:///{folder / 'mlflow.db'}"
    Tracker(database, "its tables are made here, where it is quick", folder)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(artifacts)]
    log = folder / "log"
    env = {**os.environ, "MLFLOW_ENABLE_TELEMETRY": "false", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream, start_new_session=True, env=env)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"), lambda: process.poll() is None, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()

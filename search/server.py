"""MLflow's own server, for make ui."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from denoise.refusal import Refusal
from search.commands import make


def serve(uri: str, artifacts: Path, port: int) -> int:
    """Serve the tracker at `uri` on 127.0.0.1 until it is interrupted; the exit status."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--default-artifact-root", artifacts.as_uri(), "--workers", "1"]
    try:
        return subprocess.call(command, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"})
    except KeyboardInterrupt:
        return 0


def read_port(text: str) -> int:
    """Read port=5001. Errors: Refusal."""
    value = text.partition("=")[2]
    if not value.isdigit() or not 1 <= int(value) <= 65535:
        raise Refusal(f"{text}: not a port; legal: 1 to 65535, such as port=5001")
    return int(value)


def free_port(wanted: int) -> int:
    """Find a port that nobody listens on, `wanted` or one of the next. Errors: Refusal where all are taken."""
    for port in range(wanted, min(wanted + 20, 65536)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Refusal(f"port={wanted}: taken, and so are the next ones; give another: {make('ui', ['port=8080'])}")

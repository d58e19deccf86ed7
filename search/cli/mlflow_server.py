"""MLflow's own server, for make ui."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from denoise.errors import UserError
from search.console.printed_commands import make

GRACE_SECONDS = 5.0  # a server that is told to end is killed after so long


def serve(uri: str, store: Path, port: int) -> int:
    """Serve the tracker at `uri` on 127.0.0.1 until it is interrupted or told to end; the exit status.

    What the server says goes to a file in the store. It has a session of its own, so that a Ctrl-C ends this process
    alone, which ends all of the server's.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--default-artifact-root", (store / "artifacts").as_uri(), "--workers", "1"]
    told = {"MLFLOW_BACKEND_STORE_URI": uri}  # not in argv, which anybody on the machine can read
    told |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = store / "mlflow-server.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env={**os.environ, **told}, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(process)
    last = log.read_text(errors="replace").split("\n")[-2:]
    print(f"MLflow's server has ended: {' '.join(last).strip()}; all that it said is in {log}", file=sys.stderr)
    return 1


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it has started."""
    for end, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, end)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def read_port(text: str) -> int:
    """Read port=5001. Errors: UserError."""
    value = text.partition("=")[2]
    if not value.isdigit() or not 1 <= int(value) <= 65535:
        raise UserError(f"{text}: not a port; legal: 1 to 65535, such as port=5001")
    return int(value)


def free_port(wanted: int) -> int:
    """Find a port that no one listens on, `wanted` or one of the next. Errors: UserError where all are taken."""
    for port in range(wanted, min(wanted + 20, 65536)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise UserError(f"port={wanted}: taken, and so are the next ones; give another: {make('ui', ['port=8080'])}")

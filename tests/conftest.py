"""Every test stands alone: one thread, no tracker from outside, its own random numbers, the catalogue as it was."""

import os
import random
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ["OMP_NUM_THREADS"] = "1"  # with more a search has several processes

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from denoise.config import catalog, trust
from denoise.errors import UserError
from denoise.interruption import ENDS
from search.console import printed_commands
from search.tracking import new_database

torch.set_num_threads(1)
for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)  # what is printed is as wide, and as coloured, as where nothing is said of it
for name in ("no_proxy", "NO_PROXY"):  # servers of the tests are on this machine
    os.environ[name] = f"{os.environ.get(name, '')},127.0.0.1,localhost".lstrip(",")
# Examples are the same at each run and on each machine, and may take their time; --hypothesis-profile=new draws others
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("new", settings.get_profile("same"), derandomize=False, database=None)
settings.load_profile("same")
for each in ENDS:  # a shell begins what is in the background, and nohup, with signals ignored, which processes keep
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, signal.SIG_DFL if each != signal.SIGINT else signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--config-dir", action="append", default=[], help="test the components of this folder too")


def pytest_configure(config: pytest.Config) -> None:
    """Add the user's own folders before the tests are collected: they are parametrized by the catalogue."""
    try:
        for folder in config.getoption("--config-dir"):
            catalog.add_folder(Path(folder))
        catalog.check_own()
    except UserError as error:
        raise pytest.UsageError(str(error)) from error


LONG = (
    "test_loop",
    "test_train",
    "test_verbs",
    "test_questions",
    "test_tracker",
    "test_bad_input",
    "test_own_component",
    "test_samplers",
    "test_pruners",
    "test_confirmation",
    "test_fast_compose",
)

QUICK = (  # no processes, no servers, no trainings of seconds: for the edit loop
    *("test_activation", "test_address", "test_backbone"),
    *("test_convolution", "test_images", "test_edm", "test_prediction", "test_docker", "test_feed_forward"),
    *("test_figure", "test_pareto_front", "test_initializer", "test_inspection", "test_linear"),
    *("test_lr_schedule", "test_moved", "test_muon", "test_digits", "test_normalization"),
    *("test_contract", "test_options", "test_pages", "test_leaderboard"),
    *("test_solver", "test_structure", "test_tails", "test_transforms", "test_trials"),
    *("test_trust", "test_weight_normalization"),
)


COMPONENTS = ("activation", "normalization", "optimizer", "initializer", "kernels")  # folders of tests/denoise
COMPONENTS += ("test_feed_forward", "test_lr_schedule", "test_weight_normalization")  # and files
VERBS = ("cli", "searches", "test_make", "test_package", "test_notebook")  # folders and files
APART = ("faults", "browser", "components", "verbs")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With -m quick no other file is imported."""
    others = collection_path.stem.startswith("test_") and collection_path.stem not in QUICK
    return True if others and config.getoption("markexpr") == "quick" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no worker is left with one of them at the end.

    What is marked with a name of APART has a verb of its own, make test-NAME; a file of it that is named is run here.
    """
    for item in items:
        if {item.path.parent.name, item.path.stem} & {*COMPONENTS}:
            item.add_marker("components")
        if {item.path.parent.name, item.path.stem} & {*VERBS} and not any(map(item.get_closest_marker, APART)):
            item.add_marker("verbs")
        if item.path.stem in QUICK and not item.get_closest_marker("faults"):
            item.add_marker("quick")
    if not config.getoption("file_or_dir") and not config.getoption("markexpr"):
        others = [item for item in items if any(map(item.get_closest_marker, APART))]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if not any(map(item.get_closest_marker, APART))]
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new store of this process gets a copy of MLflow's tables, which MLflow takes a second to make."""
    made = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is imported here first; no test asked for it
        new_database.make(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_database, "make", lambda database: shutil.copyfile(made, database))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test and its fixtures draw without a generator of their own does not depend on the tests before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def catalogue() -> Iterator[None]:
    """The folders, the trust and the words typed that a test adds are taken away after it."""
    lists = (catalog._folders, trust.homes, trust.allowed, sys.path, printed_commands.given)
    printed_commands.given[:] = []  # what a fixture of a module has typed
    before = [list(each) for each in lists]
    yield
    if list(catalog._folders) != before[0]:
        catalog.read.cache_clear()
    for each, content in zip(lists, before, strict=True):
        each[:] = content

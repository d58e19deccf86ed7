"""What a component changes of its process is put back: the next training is the one that it would have been."""

import gc
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from denoise.config import catalog, trust
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.process_state import SETTINGS, steady
from denoise.training import train
from tests.tiny import TINY

CHANGES: dict[str, Callable[[], Any]] = {
    "default dtype": partial(torch.set_default_dtype, torch.float64),
    "default device": partial(torch.set_default_device, "meta"),
    "gradients": partial(torch.set_grad_enabled, False),
    "threads": partial(torch.set_num_threads, 3),
    "precision": partial(torch.set_float32_matmul_precision, "medium"),
    "anomalies": partial(torch.autograd.set_detect_anomaly, True),
    "subnormals": partial(torch.set_flush_denormal, True),
    "recursion": partial(sys.setrecursionlimit, 150),
    "garbage": gc.disable,
    "folder": partial(os.chdir, "/"),
    "environment": os.environ.clear,
    "logging": partial(logging.disable, logging.CRITICAL),
    "output": partial(setattr, sys, "stdout", None),
    "signals": partial(signal.signal, signal.SIGTERM, signal.SIG_IGN),
    "warnings": partial(warnings.simplefilter, "error"),
}


def state() -> list[Any]:
    return [*(read() for read, _ in SETTINGS), list(warnings.filters)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("ends", [None, SystemExit])
def test_what_is_changed_within_is_put_back_after(change: str, ends: type[BaseException] | None) -> None:
    before = state()
    try:
        with steady():
            CHANGES[change]()
            if ends is not None:
                raise ends
    except SystemExit:
        pass
    assert state() == before


def test_an_output_is_not_closed_for_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    for output in (sys.stdout, sys.stderr):
        with steady():
            print("within", file=output)
            sys.stdout.close()
            sys.stderr.close()
            print("after", file=sys.stdout)
        print("outside", file=output)
    assert capsys.readouterr().out.split() == ["within", "after", "outside", "after"]


def test_what_was_added_to_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_STEADY", "1")
    with steady():
        os.environ["OF_STEADY"], os.environ["ADDED_BY_STEADY"] = "2", "3"
    assert os.environ["OF_STEADY"] == "1" and os.environ.pop("ADDED_BY_STEADY") == "3"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's component that changes what it can, where it is imported, made and called."""
    monkeypatch.setattr(trust, "homes", list(trust.homes))
    monkeypatch.setattr(sys, "path", list(sys.path))
    trust.add_home(tmp_path)
    name = f"of_steady_{tmp_path.name[-8:]}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(
        "import os, torch\nfrom torch import nn\n"
        "def change():\n    torch.set_default_dtype(torch.float64); torch.set_float32_matmul_precision('medium')\n"
        "    torch.set_num_threads(2); os.chdir('/')\nchange()\n"
        "class Mine(nn.Module):\n    def __init__(self):\n        super().__init__(); change()\n"
        "    def forward(self, x):\n        change(); return torch.relu(x)\n"
        "def nothing():\n    return None\n"
    )
    return name


def test_a_training_after_a_component_that_changes_its_process_gives_the_same_bits(own: str) -> None:
    cfg = compose([*TINY, "trainer.max_steps=2", "trainer.val_every=2"]).cfg
    alone, before = train.train(cfg).weights_sha256, state()
    other = cfg.copy()
    other.activation = OmegaConf.create({"_target_": f"{own}.Mine"})
    train.prepare(other)
    assert state() == before
    try:
        train.train(other)
    except Exception as error:  # what it becomes itself is its own affair
        assert "dtype" in str(error)
    assert state() == before
    assert train.train(cfg).weights_sha256 == alone


def test_what_makes_no_component_is_refused_by_its_name(own: str) -> None:
    node = OmegaConf.create({"_target_": f"{own}.nothing"})
    for kind, base in (("activation", "torch.nn.Module"), ("optimizer", "Optimizer"), ("lr_schedule", "LRScheduler")):
        with pytest.raises(UserError, match=rf"{own}.nothing: makes a NoneType; it must make a .*{base}"):
            catalog.factory(kind, node)()


@pytest.mark.parametrize("target", ["RReLU", "Dropout"])
def test_what_draws_from_the_global_generator_is_keyed_like_all_else(target: str) -> None:
    """torch's own layers draw from it: the same config is the same bits, whatever was drawn before."""
    cfg = compose([*TINY, "trainer.max_steps=2", "trainer.val_every=2", f"activation._target_=torch.nn.{target}"]).cfg
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(train.train(cfg).weights_sha256)
    cfg.seed = 1
    assert found[0] == found[1] != train.train(cfg).weights_sha256

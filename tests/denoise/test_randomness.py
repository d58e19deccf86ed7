"""Randomness is keyed, not consumed: what may change a number, and what must not."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import denoise
from denoise.config import compose
from denoise.model.block import Dropout
from denoise.randomness import Clock, attach, key, seeded, stream
from denoise.training.checkpoint import unfinished
from denoise.training.train import forget, prepare, train
from tests.process import until

TINY = (
    "trainer.gap_samples=16 "
    "model.width=8 model.embedding_dim=16 model.num_heads=2 data.batch_size=16 trainer.val_samples=32 "
    "trainer.accelerator=cpu trainer.num_threads=1 solver.images=1 solver.steps=2 trainer.log_every=1"
).split()
STOCHASTIC = (
    "dropout=0.1 normalization=batch_norm weight_normalization=spectral_norm optimizer=muon trainer.save_seconds=0"
).split()
STEPS = "trainer.max_steps=9 trainer.val_every=3 trainer.health_every=2".split()


def tiny(*overrides: str):
    return compose.compose([*TINY, *overrides]).cfg


class Killed(Exception):
    pass


class Witness:
    """Keeps what a training reports by step, without times and memory; raises at `killed_at`."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.killed_at = killed_at
        self.met: dict[tuple[int, str], float] = {}
        self.saved: list[int] = []

    def on_metrics(self, step, metrics):
        self.met |= {(step, name): value for name, value in metrics.items() if not name.startswith("cost/")}
        if self.killed_at is not None and step >= self.killed_at:
            raise Killed

    def on_objective(self, step, value):
        self.met[step, "objective"] = value
        return False

    def on_step(self):
        pass

    def on_save(self, step):
        self.saved.append(step)


# ---------------------------------------------------------------- streams


def test_keys_never_change():
    """A stored seed must mean the same numbers next year."""
    assert key(0, "noise", 0) == 5858681329433569406
    assert key(7, "data/order", 3) == 7932865823605421530


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.integers(0, 5)), unique=True, min_size=2))
def test_each_stream_has_its_own_key(streams):
    assert len({key(*s) for s in streams}) == len(streams)


def test_a_stream_is_always_the_same_and_moves_no_other():
    first = torch.randn(5, generator=stream(3, "noise", 7))
    state = torch.random.get_rng_state()
    torch.randn(100, generator=stream(3, "sigma", 7))
    assert torch.equal(torch.randn(5, generator=stream(3, "noise", 7)), first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seeded_puts_the_global_state_back():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    with seeded(1, "init/x"):
        one = torch.randn(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    with seeded(1, "init/x"):
        assert torch.equal(torch.randn(3), one)


def test_dropout_draws_by_name_and_step():
    model = torch.nn.ModuleDict({"a": Dropout(0.5), "b": Dropout(0.5)})
    clock = Clock(seed=1)
    attach(model, clock)
    x = torch.ones(1000)
    first, other = model["a"](x), model["b"](x)
    assert not torch.equal(first, other)
    assert torch.equal(model["a"](x), first)
    clock.step = 1
    assert not torch.equal(model["a"](x), first)
    assert first.mean() == pytest.approx(1, abs=0.15) and set(first.tolist()) == {0.0, 2.0}


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize(
    "change",
    [
        "activation=gelu",
        "activation=swish",
        "dropout=0.3",
        "optimizer=sgd",
        "normalization=batch_norm",
        "model.class_conditional=true",
        "trainer.max_steps=50",
        "model.width=16",
    ],
)
def test_options_with_one_seed_see_the_same_batches_sigmas_and_noise(change):
    one, other = prepare(tiny("activation=relu")), prepare(tiny("activation=relu", change))
    for step in (0, 1, 77, 78, 500):  # 78 steps an epoch
        torch.rand(random.randrange(1, 9))  # what others draw does not matter
        for a, b in zip(one.draw(step)[:3], other.draw(step)[:3], strict=True):
            assert torch.equal(a, b)


def test_draws_depend_on_step_and_seed_only():
    module = prepare(tiny())
    first = [t.clone() for t in module.draw(0)[:3]]
    later = module.draw(90)
    assert all(torch.equal(a, b) for a, b in zip(module.draw(0)[:3], first, strict=True))
    other = prepare(tiny("seed=1")).draw(0)
    for a, b, c in zip(first, later[:3], other[:3], strict=True):
        assert not torch.equal(a, b) and not torch.equal(a, c)


# ---------------------------------------------------------------- trainings


@pytest.fixture(scope="module")
def whole():
    """The uninterrupted training."""
    witness = Witness()
    return train(tiny(*STOCHASTIC, *STEPS), witness), witness


def test_twice_is_the_same_and_another_seed_is_not(whole):
    result, witness = whole
    torch.manual_seed(1234)
    again = Witness()
    assert train(tiny(*STOCHASTIC, *STEPS), again).weights_sha256 == result.weights_sha256
    assert again.met == witness.met
    assert train(tiny(*STOCHASTIC, *STEPS, "seed=1")).weights_sha256 != result.weights_sha256


@pytest.mark.parametrize(
    "change",
    ["trainer.health_every=1", "trainer.val_every=2", "trainer.log_every=4", "trainer.val_samples=16", "solver=euler"],
)
def test_looking_more_often_changes_no_weight(whole, change):
    assert train(tiny(*STOCHASTIC, *STEPS, change)).weights_sha256 == whole[0].weights_sha256


def test_saving_changes_no_weight(whole, tmp_path):
    witness = Witness()
    result = train(tiny(*STOCHASTIC, *STEPS), witness, tmp_path / "state.ckpt")
    assert result.weights_sha256 == whole[0].weights_sha256
    assert witness.saved == [4, 7]


def resumed(checkpoint: Path, whole, told: dict, saved: int) -> None:
    """Go on from a checkpoint taken after `saved` steps: nothing may differ from the whole training."""
    result, witness = whole
    after = Witness()
    end = train(tiny(*STOCHASTIC, *STEPS), after, checkpoint)
    assert min(step for step, name in after.met if name == "train/loss") == saved + 1, "it started anew"
    assert end.weights_sha256 == result.weights_sha256
    assert {k: v for k, v in told.items() if k[0] <= saved} | after.met == witness.met
    own = {name for name in result.metrics if not name.startswith("cost/")}
    assert {name: end.metrics[name] for name in own} == {name: result.metrics[name] for name in own}


@pytest.mark.faults
@pytest.mark.parametrize("killed_at", [5, 6, 8])
def test_killed_and_resumed_is_the_training_that_was_not(whole, tmp_path, killed_at):
    first = Witness(killed_at)
    with pytest.raises(Killed):
        train(tiny(*STOCHASTIC, *STEPS), first, tmp_path / "state.ckpt")
    assert first.saved == ([4] if killed_at < 7 else [4, 7])
    assert {path.name for path in tmp_path.iterdir()} == {"state.ckpt", "state.ckpt.sha256"}
    resumed(tmp_path / "state.ckpt", whole, first.met, first.saved[-1])


@pytest.mark.faults
def test_what_a_kill_left_of_a_checkpoint_goes_with_it(tmp_path):
    checkpoint = tmp_path / "state.ckpt"
    for path in (checkpoint, unfinished(checkpoint)):
        path.write_bytes(b"half")
    (tmp_path / "other.ckpt").touch()
    forget(checkpoint)
    forget(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["other.ckpt"]


CHILD = """
import signal, sys
from pathlib import Path
from denoise.config import compose
from denoise.training.train import train

class Wait:
    def on_metrics(self, step, metrics):
        if step >= 8:
            signal.pause()
    def on_objective(self, step, value):
        return False
    def on_step(self):
        pass

    def on_save(self, step):
        pass

train(compose.compose(sys.argv[2:]).cfg, Wait(), Path(sys.argv[1]))
"""


@pytest.mark.faults
def test_a_process_killed_at_any_moment_can_be_resumed(whole, tmp_path):
    """SIGKILL as soon as the first checkpoint is there, in whatever the process is doing then."""
    checkpoint = tmp_path / "state.ckpt"
    environment = {**os.environ, "PYTHONPATH": str(Path(denoise.__file__).parents[1])}
    command = [sys.executable, "-c", CHILD, str(checkpoint), *TINY, *STOCHASTIC, *STEPS]
    child = subprocess.Popen(command, env=environment)
    try:
        until(checkpoint.exists, lambda: child.poll() is None)
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL
    saved = torch.load(checkpoint, weights_only=True)["global_step"]
    assert saved in (4, 7)
    resumed(checkpoint, whole, whole[1].met, saved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_what_draws_on_a_gpu_is_keyed_there_too_and_its_generator_is_put_back() -> None:
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state()
    draws = []
    for step in (0, 0, 1):
        with seeded(0, "a", step, device):
            draws.append(torch.rand(4, device=device).tolist())
    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(torch.cuda.get_rng_state(), before)

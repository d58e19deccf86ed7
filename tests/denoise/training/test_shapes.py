"""Images that are no squares, and of other channels than one or three: a training ends whole, with a picture."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from denoise.config.compose import compose
from denoise.data import cache
from denoise.evaluation.ensemble import Member, evaluate
from denoise.evaluation.inspection import inspect
from denoise.evaluation.reach import look
from denoise.training.train import data_notes, prepare, train
from tests.tiny import TINY

DIT = [o for o in TINY if "width" not in o] + ["model=dit", "model.dim=8", "model.depth=1"]
MODELS = {"unet": TINY, "dit": DIT}
SHAPES = {"wide": (3, 4, 12), "latent": (4, 8, 4), "two channels": (2, 4, 4), "one row": (1, 2, 6)}


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    monkeypatch.setattr(cache, "kept_in", None)


def typed(folder, shape, *more):
    draw = np.random.default_rng(0)
    spread = 1.0 if shape[0] in (2, 4) else 0.2
    np.savez(folder / "x.npz", x=(spread * draw.standard_normal((40, *shape))).clip(-4, 4).astype(np.float32))
    cache.keep_in(folder)
    base = [f"data.root={folder}/x.npz", "data.batch_size=8", "trainer.max_steps=2"]
    return compose(["data=tensors", *base, "trainer.val_every=2", "trainer.accelerator=cpu", *more]).cfg


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_training_of_any_shape_ends_with_a_picture(tmp_path, model, shape):
    result = train(typed(tmp_path, shape, *MODELS[model]))
    assert result.outcome == "complete" and result.step == 2
    factor = max(-(-32 // min(shape[1:])), -(-256 // (2 * shape[2])))  # 32 pixels an image, 256 across
    assert Image.open(io.BytesIO(result.samples)).size == tuple(2 * (side * factor + 2) + 2 for side in shape[:0:-1])


def test_what_looks_at_a_network_takes_any_shape(tmp_path):
    cfg = typed(tmp_path, (4, 4, 12), *TINY)
    assert all(np.isfinite(row.signal) for row in inspect(cfg).network) and look(cfg).places
    result = train(cfg)
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in result.weights.items()}, tmp_path / "weights.safetensors")
    found = evaluate([Member(cfg, tmp_path / "weights.safetensors")])
    assert found["val/loss"] == result.metrics["val/loss"]


def test_streamed_or_in_memory_a_training_is_the_same(tmp_path):
    whole, streamed = (typed(tmp_path, (3, 4, 8), f"data.memory={memory}", *TINY) for memory in (1, 0))
    assert prepare(streamed).data.streamed and not prepare(whole).data.streamed
    assert train(whole).weights_sha256 == train(streamed).weights_sha256


def test_what_is_said_of_data(tmp_path):
    cfg = typed(tmp_path, (4, 8, 4), "data.sigma_data=0.5", *TINY)
    said = data_notes(cfg)
    assert "40 images in" in said[0] and "8x4, 4 channels" in said[0] and "sigma_data 0.5" in said[-1]
    assert prepare(cfg).batches(0)[0].dtype == torch.float32

"""Conditions of the data, handed to a network by name: which rows, where, and what is said where none takes them."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.evaluation.ensemble import Ensemble
from denoise.training import cost
from denoise.training.build import prepare
from denoise.training.draw import draw
from denoise.training.train import counted, data_notes, train
from tests.denoise.foreign import zoo

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of other libraries
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.drop = nn.Conv2d(channels, 4, 3, padding=1), nn.Dropout(0.1)
        self.last = nn.Conv2d(4, channels, 3, padding=1)
        self.told, self.seen = nn.Linear(3, 4), []

    def forward(self, x, t, text, mask=None):
        self.seen.append(text)
        return self.last(self.drop(torch.tanh(self.first(x) + self.told(text)[:, :, None, None])))

class Other(Net):
    def forward(self, x, t, context):
        return super().forward(x, t, context)

class Plain(Net):
    def forward(self, x, t, text=None):
        return super().forward(x, t, torch.zeros(len(x), 3))
"""
ROWS = 40
FEW = [
    *(
        "trainer.max_steps=3",
        "trainer.val_every=3",
        "trainer.val_samples=8",
        "trainer.gap_samples=4",
        "data.batch_size=8",
    ),
    *(
        "trainer.test_samples=4",
        "solver.steps=2",
        "solver.images=6",
        "trainer.num_threads=1",
        "trainer.accelerator=cpu",
    ),
]


def about(x: Any) -> Any:
    """What an image is told with: its first three pixels."""
    return x.reshape(len(x), -1)[:, :3]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Images that are told with `text`, and with `other`, which no network here takes."""
    (tmp_path / "net_of_conditions.py").write_text(NET)
    monkeypatch.delitem(sys.modules, "net_of_conditions", raising=False)
    catalog.add_folder(tmp_path)
    x = np.random.default_rng(0).uniform(-1, 1, (ROWS, 1, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "told.npz", x=x, text=about(x), other=np.arange(ROWS))
    return [
        *FEW,
        "model=mine",
        "model._target_=net_of_conditions.Net",
        "data=tensors",
        f"data.root={tmp_path}/told.npz",
    ]


def test_each_image_goes_with_its_own_conditions(typed: list[str]) -> None:
    module = prepare(compose(typed).cfg)
    module.setup("fit")
    for step in (0, 5):
        drawn, *_, told = module.draw(step)
        assert told is not None and told.keys() == {"text"} and torch.equal(told["text"], about(drawn))
    for split, count in (("validation", 8), ("train", 4), ("test", 4)):
        fixed = module._fixed(count, split)
        module.denoiser.backbone.net.seen.clear()
        module._losses(fixed)
        assert torch.equal(torch.cat(module.denoiser.backbone.net.seen), about(fixed.images))


def test_samples_have_those_of_the_first_validation_images(typed: list[str]) -> None:
    cfg = compose(typed).cfg
    module = prepare(cfg)
    first, net = about(module.data.images["validation"])[:6], module.denoiser.backbone.net
    assert len(first) == 6
    net.seen.clear()
    drawn = draw(cfg, module.denoiser, module.data)
    assert net.seen and all(torch.equal(each, first) for each in net.seen)
    net.seen.clear()
    both = Ensemble([module.denoiser, module.denoiser])
    assert torch.allclose(draw(cfg, both, module.data), drawn, atol=1e-6)
    assert all(torch.equal(each, first) for each in net.seen)


def permuted(told: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: each.flip(0) for name, each in told.items()}


def test_a_condition_acts_and_a_training_is_the_same_twice(typed: list[str]) -> None:
    module = prepare(compose(typed).cfg)
    *drawn, told = module.draw(0)
    loss = module.denoiser.eval().loss
    assert not torch.equal(loss(*drawn, told), loss(*drawn, permuted(told)))
    first, again = (train(compose(typed).cfg) for _ in range(2))
    assert first.outcome == "complete" and first.weights_sha256 == again.weights_sha256
    assert first.metrics["val/loss"] == again.metrics["val/loss"] and first.samples == again.samples
    plain = train(compose([*typed, "model._target_=net_of_conditions.Plain"]).cfg)
    assert plain.metrics["val/loss"] != first.metrics["val/loss"]


def test_a_batch_in_parts_and_a_curvature_are_told_too(typed: list[str]) -> None:
    whole, parts = (train(compose([*typed, *more]).cfg) for more in ([], ["trainer.accumulate=4"]))
    assert parts.outcome == "complete" and parts.weights_sha256 != whole.weights_sha256  # dropout draws for each part
    curved = train(compose([*typed, "optimizer=sophia", "trainer.max_steps=2"]).cfg)
    assert curved.outcome == "complete"


def test_an_argument_of_another_name_is_mapped(typed: list[str]) -> None:
    other = [*typed, "model._target_=net_of_conditions.Other"]
    with pytest.raises(UserError, match="Other.forward.x, t, context. needs context, which the data do not have"):
        prepare(compose(other).cfg)
    mapped, plain = prepare(compose([*other, "model.call=auto/context=text"]).cfg), prepare(compose(typed).cfg)
    assert torch.equal(mapped.eval().denoiser.loss(*mapped.draw(0)), plain.eval().denoiser.loss(*plain.draw(0)))
    named = prepare(compose([*other, "model.call=x/t/-/context=text"]).cfg)
    assert named.denoiser.conditions == ("text",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=digits"], "needs text, which the data do not have; their conditions: none; bring it as"),
        (["model.call=auto/text=words"], "the data have no words; their conditions: text, other"),
        (["model.call=auto/texts=text"], "Net.forward.x, t, text, mask. has no texts"),
        (["model.call=auto/x=text"], "x of Net.forward.* is the image, the noise level or the labels already"),
        (["model.call=x/text=text"], "not two or three names"),
        (["model.call=auto/text=other"], "refuses images of 2x1x4x4, other of 2: "),
    ],
)
def test_what_cannot_be_told_is_refused_in_one_line(overrides: list[str], message: str, typed: list[str]) -> None:
    given = [text for text in typed if not text.startswith("data.root")] if "data=digits" in overrides else typed
    with pytest.raises(UserError, match=message) as refused:
        prepare(compose([*given, *overrides]).cfg)
    assert "\n" not in str(refused.value)


def test_what_becomes_of_each_condition_is_said(typed: list[str]) -> None:
    def said(*more: str) -> list[str]:
        return [note for note in data_notes(compose([*typed, *more]).cfg) if "text" in note or "other" in note]

    assert said() == [
        "data: text given to Net; samples have those of the first validation images",
        "data: other: no argument of Net takes it",
    ]
    other = ["model._target_=net_of_conditions.Other", "model.call=auto/context=text"]
    assert said(*other)[0].startswith("data: text as context given to Other;")
    ours = [text for text in typed if not text.startswith("model")]
    notes = data_notes(compose([*ours, "model=unet"]).cfg)
    assert "data: text, other: no argument of UNet takes it" in notes
    assert prepare(compose([*ours, "model=unet", "model.width=8"]).cfg).draw(0)[4] is None


def test_networks_of_the_same_layers_are_counted_once(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = counted(cfg := compose(typed).cfg, prepare(cfg))
    monkeypatch.setattr(cost, "_count", None)
    assert counted(cfg, prepare(cfg)) == first


@zoo.needs_libraries
def test_a_text_condition_of_diffusers(tmp_path: Path) -> None:
    model, _ = zoo.make(zoo.unet2d_condition)
    config = {name: value for name, value in model.config.items() if not name.startswith("_")}
    (tmp_path / "config.json").write_text(json.dumps(config | {"_class_name": "UNet2DConditionModel"}))
    generator = np.random.default_rng(0)
    x, text = (generator.normal(size=(ROWS, *shape)).astype(np.float32) for shape in ((4, 8, 8), (7, 24)))
    np.savez(tmp_path / "told.npz", x=x, encoder_hidden_states=text)
    np.savez(tmp_path / "bare.npz", x=x)
    given = [*FEW, "trainer.gap_samples=0", "trainer.test_samples=0", "model=diffusers", f"model.path={tmp_path}"]

    def run(name: str) -> Any:
        return compose([*given, "data=tensors", f"data.root={tmp_path}/{name}.npz"]).cfg

    module = prepare(run("told"))
    *drawn, told = module.draw(0)
    assert told["encoder_hidden_states"].shape == (8, 7, 24)
    loss = module.denoiser.loss
    assert not torch.equal(loss(*drawn, told), loss(*drawn, permuted(told)))
    assert torch.equal(loss(*drawn, told), loss(*drawn, told))
    bare = prepare(run("bare"))
    assert bare.denoiser.conditions == () and bare.denoiser.loss(*bare.draw(0)).isfinite().all(), "a token of zeros"
    seven, one = (counted(run(name), each)["cost/flops_per_step"] for name, each in (("told", module), ("bare", bare)))
    assert seven > one
    first, again = (train(run("told")) for _ in range(2))
    assert first.outcome == "complete" and first.weights_sha256 == again.weights_sha256

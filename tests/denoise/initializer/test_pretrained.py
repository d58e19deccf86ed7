"""Weights of an earlier training: what is taken, what is not and why, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from denoise.config import compose as config
from denoise.errors import UserError
from denoise.initializer.pretrained import prefix
from denoise.training.module import DenoiseModule
from denoise.training.train import prepare, sample, train

COMMON = (
    "trainer.gap_samples=16 "
    "trainer.accelerator=cpu trainer.num_threads=1 data.batch_size=8 trainer.val_samples=16 solver.images=1 "
    "solver.steps=2 model.width=8 model.embedding_dim=16 model.num_heads=2"
).split()


def cfg(*overrides: str):
    return config.compose([*COMMON, *overrides]).cfg


def started(path: Path, *overrides: str) -> DenoiseModule:
    return prepare(cfg("initializer=pretrained", f"initializer.path={path}", *overrides))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[dict[str, torch.Tensor], Path]:
    """A small trained U-Net: its weights and the file that `make train` would write."""
    folder = tmp_path_factory.mktemp("pretrained")
    steps = ["trainer.max_steps=4", "trainer.val_every=2", "normalization=batch_norm", "activation=swish"]
    checkpoint = folder / "state.ckpt"
    weights = train(cfg(*steps, "trainer.save_seconds=0.0"), checkpoint=checkpoint).weights
    assert checkpoint.exists()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "weights.safetensors")
    return weights, folder


SAME = ("normalization=batch_norm", "activation=swish")


def test_all_is_taken_bit_for_bit_into_the_same_shape(trained):
    """Also what would start at zero, biases, normalizations, learned activations and running averages."""
    weights, folder = trained
    module = started(folder / "weights.safetensors", *SAME)
    own = module.denoiser.state_dict()
    assert own.keys() == weights.keys() and all(torch.equal(own[name], weights[name]) for name in own)
    assert own["backbone.conv_out.weight"].abs().max() > 0
    (report,) = module.start
    assert set(report.taken) == set(own) and not report.left
    assert f"{len(own)} of {len(own)} tensors taken" in report.summary
    assert all(name in report.text() for name in own)


def wrapped(form: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return {
        "flat": lambda w: w,
        "lightning": lambda w: {"state_dict": {f"denoiser.{n}": t for n, t in w.items()}, "epoch": 3},
        "compiled": lambda w: {"state_dict": {f"_orig_mod.{n}": t for n, t in w.items()}},
        "backbone": lambda w: {n.removeprefix("backbone."): t for n, t in w.items()},
        "deep": lambda w: {f"module.ema.{n}": t for n, t in w.items()},
        "double": lambda w: {n: t.double() if t.is_floating_point() else t for n, t in w.items()},
    }[form]


@pytest.mark.parametrize("form", ["flat", "lightning", "compiled", "backbone", "deep", "double"])
def test_torch_checkpoints_are_read_under_the_names_they_have(form, trained, tmp_path):
    weights, _ = trained
    torch.save(wrapped(form)(weights), tmp_path / "weights.pt")
    module = started(tmp_path / "weights.pt", *SAME)
    own = module.denoiser.state_dict()
    assert all(torch.equal(own[name], weights[name]) for name in own) and not module.start[0].left


def test_a_checkpoint_of_a_training_is_read(trained):
    _, folder = trained
    (report,) = started(folder / "state.ckpt", *SAME).start
    missing = [name for name, reason in report.left if reason == "not in the file"]
    assert not missing and len(report.taken) > 30


def test_another_width_is_reported_by_name_and_starts_by_otherwise(trained):
    weights, folder = trained
    module = started(folder / "weights.safetensors", *SAME, "model.width=12", "initializer.otherwise=constant")
    (report,) = module.start
    own, left = module.denoiser.state_dict(), dict(report.left)
    assert set(report.taken) | set(left) == set(own) and not set(report.taken) & set(left)
    for name in report.taken:
        assert torch.equal(own[name], weights[name])
    for name in left:
        assert own[name].shape != weights[name].shape
        assert str(tuple(own[name].shape)) in left[name] and str(tuple(weights[name].shape)) in left[name]
        if name.endswith("conv_in.weight"):
            assert own[name].unique().numel() == 1, "constant"
    assert report.taken and left and f"{len(left)} not" in report.summary


def test_what_one_side_lacks_is_reported(trained):
    """An activation that learns nothing, classes that the file does not know."""
    weights, folder = trained
    module = started(folder / "weights.safetensors", "normalization=batch_norm", "model.class_conditional=true")
    (report,) = module.start
    left, own = dict(report.left), module.denoiser.state_dict()
    assert left.pop("backbone.embedding.label.weight") == "not in the file"
    assert left and all(name in weights and name not in own and "only in the file" in left[name] for name in left)
    assert own["backbone.embedding.label.weight"].abs().max() > 0
    assert f"{len(left)} in the file not used" in report.summary


def test_weights_that_are_no_numbers_are_reported(trained, tmp_path):
    weights, _ = trained
    name = "backbone.conv_in.weight"
    torch.save({**weights, name: torch.full_like(weights[name], torch.nan)}, tmp_path / "a.pt")
    assert dict(started(tmp_path / "a.pt", *SAME).start[0].left) == {name: "is not finite in the file"}
    torch.save({**weights, name: weights[name].to(torch.int32)}, tmp_path / "b.pt")
    assert "torch.int32 in the file" in dict(started(tmp_path / "b.pt", *SAME).start[0].left)[name]
    torch.save({**weights, name: "text"}, tmp_path / "c.pt")
    assert "not a tensor" in dict(started(tmp_path / "c.pt", *SAME).start[0].left)[name]


def test_one_part_takes_its_own_weights_alone(trained):
    weights, folder = trained
    path = folder / "weights.safetensors"
    own = ["initializer@parts.transformer.initializer=pretrained", f"parts.transformer.initializer.path={path}"]
    module, plain = prepare(cfg(*SAME, *own)), prepare(cfg(*SAME))
    (report,) = module.start
    now, before = module.denoiser.state_dict(), plain.denoiser.state_dict()
    for name in now:
        assert torch.equal(now[name], weights[name] if name in report.taken else before[name])
    assert report.taken and all(".1.attention" in n or ".1.feed_forward" in n for n in report.taken)
    assert {reason for _, reason in report.left} == {"its part has another initializer"}


def test_lsuv_comes_after_the_weights_that_are_taken(trained):
    _, folder = trained
    own = ["initializer@parts.residual.initializer=lsuv"]
    module = started(folder / "weights.safetensors", *SAME, *own)
    assert [report.summary.split()[0] for report in module.start] == ["pretrained", "lsuv:"]


def test_training_goes_on_from_the_weights_and_samples_need_no_file(trained, tmp_path):
    _, folder = trained
    path = tmp_path / "weights.safetensors"
    path.write_bytes((folder / "weights.safetensors").read_bytes())
    config = cfg(*SAME, "initializer=pretrained", f"initializer.path={path}", "trainer.max_steps=2")
    result = train(config)
    assert result.outcome == "complete" and result.start[0].taken
    assert result.weights_sha256 != train(cfg(*SAME, "trainer.max_steps=2")).weights_sha256
    save_file({name: tensor.contiguous() for name, tensor in result.weights.items()}, tmp_path / "new.safetensors")
    path.unlink()
    assert sample(config, tmp_path / "new.safetensors") == result.samples


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as error:
        prepare(cfg("initializer=pretrained", *overrides))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(trained, tmp_path):
    weights, _ = trained
    torch.save({"state_dict": weights, "more": Bomb(tmp_path / "ran")}, tmp_path / "bomb.ckpt")
    said = refused(f"initializer.path={tmp_path / 'bomb.ckpt'}")
    assert "run code" in said and "bomb.ckpt" in said
    assert not (tmp_path / "ran").exists()


def test_what_is_no_file_of_weights_is_refused(trained, tmp_path):
    _, folder = trained
    assert "initializer.path=null" in refused() and "initializer.run" in refused()
    assert "no such file" in refused("initializer.path=nowhere.safetensors")
    assert "cannot be read" in refused(f"initializer.path={tmp_path}")
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "empty.pt").write_bytes(b"")
    whole = (folder / "weights.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "zip.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    for name in ("text.ckpt", "empty.pt", "cut.safetensors", "zip.pt"):
        assert "not a file of weights" in refused(f"initializer.path={tmp_path / name}")
    torch.save({"model": {"a": torch.ones(2)}, "step": 3}, tmp_path / "other.pt")
    assert "model, step" in refused(f"initializer.path={tmp_path / 'other.pt'}")
    torch.save({"a.b": torch.ones(2)}, tmp_path / "foreign.pt")
    assert "a.b" in refused(f"initializer.path={tmp_path / 'foreign.pt'}")
    assert "give one of them" in refused("initializer.path=a.pt", "initializer.run=abc")
    assert "the verbs train and search" in refused("initializer.run=abc")
    assert "initializer=nobody" in refused("initializer.path=a.pt", "initializer.otherwise=nobody")
    for stage in ("lsuv", "pretrained"):
        assert "stage of its own" in refused("initializer.path=a.pt", f"initializer.otherwise={stage}")


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (["backbone.out.weight", "backbone.block.out.weight"], ("", "")),
        (["x.backbone.out.weight", "x.backbone.block.out.weight", "out.weight"], ("x.", "")),
        (["out.weight", "block.out.weight"], ("", "backbone.")),
        (["net.out.weight", "net.block.out.weight"], ("net.", "backbone.")),
        (["nothing"], ("", "")),
    ],
)
def test_names_are_read_as_the_form_that_fits_most(names, form):
    own = {"backbone.out.weight": 0, "backbone.block.out.weight": 0}
    assert prefix(dict.fromkeys(names), own) == form

"""denoise.load and denoise.sample: what they draw, and what is refused of a folder that may be anybody's."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import denoise
from denoise.config.compose import compose
from denoise.data import images
from denoise.errors import UserError
from denoise.inference import mlflow_model
from denoise.inference.load import Trained
from denoise.inference.profile import mosaic, profile, stand_in
from denoise.pictures.grid import grid_png
from denoise.training import train
from tests.tiny import TINY

CONFIG = [*TINY, "data=digits", "activation=swish", "seed=3", "trainer.accelerator=cpu"]
CLASSES = ["model.class_conditional=true", "model.class_dropout=0.1", "solver.guidance=2.0"]


def registered(folder: Path, overrides: list[str]) -> Path:
    """The folder of a registered model with weights that no training made: noise, so that each counts."""
    cfg = compose(overrides).cfg
    denoiser = train.prepare(cfg).denoiser
    torch.manual_seed(0)
    weights = {
        k: v + 0.01 * torch.randn_like(v) if v.is_floating_point() else v for k, v in denoiser.state_dict().items()
    }
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "weights.safetensors")
    for name, content in mlflow_model.files(overrides, profile(cfg), train.sha256(weights), "f" * 32).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registered(tmp_path_factory.mktemp("model"), CONFIG)


@pytest.mark.parametrize("more", [[], CLASSES], ids=["plain", "classes"])
def test_a_folder_draws_what_its_weights_do_without_the_images(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(tmp_path, [*CONFIG, *more])
    cfg = compose([*CONFIG, *more, "solver.images=4"]).cfg
    wanted = train.sample(cfg, tmp_path / "weights.safetensors", 7)
    monkeypatch.setattr(images, "load", lambda cfg: pytest.fail("the images are not needed"))
    model = denoise.load(tmp_path)
    drawn = denoise.sample(model, 4, seed=7)
    assert grid_png(drawn) == wanted and drawn.shape == (4, 1, 8, 8) and drawn.abs().max() <= 1
    assert not any(module.training for module in model.modules())
    assert not torch.equal(drawn, denoise.sample(model, 4, seed=8))
    x, sigma, labels = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 2.0]), torch.tensor([1, 2]) if more else None
    assert torch.equal(model(x, sigma, labels), model.denoiser(x, sigma, labels))


CHANGES: dict[str, tuple[Any, str]] = {
    "code": ({"overrides": ["activation._target_=os.system"]}, "would choose code to run"),
    "allow": ({"overrides": ["allow=[os.]"]}, "would choose code to run"),
    "resolver": ({"overrides": ["seed=${oc.env:HOME}"]}, "is looked up in no file"),
    "words": ({"overrides": "seed=1"}, "not a list of overrides"),
    "network": ({"overrides": [*CONFIG, "model.width=16"]}, "not the weights of this config"),
    "shape": ({"data": {"shape": [1, 8, -8], "num_classes": 10, "kind": "picture"}}, "says no shape of an image"),
    "kind": ({"data": {"shape": [1, 8, 8], "num_classes": 10, "kind": "pickle"}}, "says no shape of an image"),
    "weights": ({"weights_sha256": "0" * 64}, "not the weights that were recorded"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_was_changed_is_refused_in_a_line(change: str, folder: Path, tmp_path: Path) -> None:
    changed, said = CHANGES[change]
    content = json.loads((folder / "denoiser.json").read_text()) | changed
    (tmp_path / "denoiser.json").write_text(json.dumps(content))
    (tmp_path / "weights.safetensors").symlink_to(folder / "weights.safetensors")
    with pytest.raises(UserError, match=said) as refused:
        denoise.load(tmp_path)
    assert "\n" not in str(refused.value)


def test_what_is_no_model_is_refused_in_a_line(folder: Path, tmp_path: Path) -> None:
    for what in ("nowhere", "models:/name", "runs:/x/y", "F" * 32):
        with pytest.raises(UserError, match=f"{what}: no folder of this name; legal: the id of a run"):
            denoise.load(what)
    with pytest.raises(UserError, match=r"has no denoiser.json; legal: the folder of a registered model"):
        denoise.load(tmp_path)
    (tmp_path / "denoiser.json").write_text("{")
    with pytest.raises(UserError, match="denoiser.json: cannot be read"):
        denoise.load(tmp_path)
    model = denoise.load(folder)
    for given, said in (({"n": 0}, "n=0"), ({"n": 2.0}, "n=2.0"), ({"seed": -1}, "seed=-1"), ({"n": True}, "n=True")):
        with pytest.raises(UserError, match=f"sample: {said}; legal: whole numbers"):
            denoise.sample(model, **given)
    with pytest.raises(UserError, match="Linear is no trained denoiser; give what denoise.load returns"):
        denoise.sample(torch.nn.Linear(1, 1))


def test_mlflow_draws_a_row_a_seed(folder: Path) -> None:
    sampler, model = mlflow_model._load_pyfunc(str(folder)), denoise.load(folder)
    drawn = torch.from_numpy(sampler.predict({"n": [2, 1], "seed": [4, 9]}))
    assert torch.equal(drawn, torch.cat([denoise.sample(model, 2, seed=4), denoise.sample(model, 1, seed=9)]))
    assert torch.equal(torch.from_numpy(sampler.predict({"n": [2]})), denoise.sample(model, 2))


ELSEWHERE = """
import sys
import mlflow.pytorch, torch
from safetensors.torch import load_file, save_file
graph, given = mlflow.pytorch.load_model(sys.argv[1]), load_file(sys.argv[2])
with torch.no_grad():
    save_file({"found": graph(*(given[name] for name in sorted(given)))}, sys.argv[2])
assert not {"denoise", "search"} & set(sys.modules), "a graph needs no project"
"""


def test_a_graph_is_the_denoiser_in_a_process_without_this_project(tmp_path: Path) -> None:
    registered(tmp_path, [*CONFIG, *CLASSES])
    for name, content in mlflow_model.graph(tmp_path).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    given = [torch.randn(5, 1, 8, 8), torch.linspace(0.1, 5.0, 5), torch.arange(5)]
    save_file(dict(zip("abc", given, strict=True)), tmp_path / "given")
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    asked = [
        sys.executable,
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {sysconfig.get_path('purelib')!r})\n{ELSEWHERE}",
    ]
    subprocess.run([*asked, str(tmp_path), str(tmp_path / "given")], env=rest, check=True, cwd=tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(load_file(tmp_path / "given")["found"], denoise.load(tmp_path)(*given))
    assert mlflow_model._load_pyfunc(str(tmp_path)).predict({"n": [1]}).shape == (1, 1, 8, 8), (
        "and drawn from as before"
    )


def test_a_network_without_a_graph_is_refused_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trained, "forward", lambda self, x, sigma: x * float(sigma.max()))
    with pytest.raises(UserError, match=r"tracking.graph: torch.export does not take this network \(") as error:
        mlflow_model.graph(folder)
    assert "\n" not in str(error.value)


def test_a_profile_is_of_the_data() -> None:
    cfg = compose(CONFIG).cfg
    data, said = images.load(cfg.data), profile(cfg)
    assert said["num_rows"] == sum(len(x) for x in data.images.values()) and said["rows"]["train"] == len(
        data.images["train"]
    )
    found = stand_in(json.loads(json.dumps(said)), "here")
    assert (found.shape, found.num_classes, found.kind) == (data.shape, data.num_classes, data.kind)
    seen = data.look_up("train", torch.arange(32) * len(data.images["train"]) // 32)
    assert mosaic(cfg) == grid_png(seen, columns=8)


@pytest.mark.filterwarnings("ignore")
def test_a_store_of_an_odd_name_is_read(folder: Path, tmp_path: Path) -> None:
    """Also one without the data set's profile, as runs of before have none: the images are looked at then."""
    from search.tracking.tracker import open_tracker

    store = tmp_path / "é %20?#'=&+(x){y}"
    content = json.loads((folder / "denoiser.json").read_text())
    tags = {"role": "train", "overrides": json.dumps(content["overrides"]), "weights_sha256": content["weights_sha256"]}
    run = open_tracker(None, "e", store).start("a", tags, {})
    run.artifacts({"weights.safetensors": (folder / "weights.safetensors").read_bytes()}, "weights")
    assert torch.equal(denoise.sample(denoise.load(run.run_id, store), 2), denoise.sample(denoise.load(folder), 2))
    (tmp_path / "mlflow.db").write_bytes(b"no database")
    with pytest.raises(UserError, match=r"mlflow.db cannot be read \(file is not a database\)"):
        denoise.load(run.run_id, tmp_path)

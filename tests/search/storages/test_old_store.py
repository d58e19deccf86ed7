"""A store of before the folders were laid out (2026-11-29): its targets have other names now, and it means the same."""

import json
import re
import tarfile
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf

from denoise.config import moved
from search.__main__ import main
from search.storages import sqlite

pytestmark = pytest.mark.filterwarnings("ignore")
PACKED = Path(__file__).parents[2] / "stores" / "before-the-folders.tar.xz"
ASKED = [  # as it was typed then
    *("model.width=8", "model.embedding_dim=16", "model.num_heads=2", "trainer.max_steps=20", "trainer.val_every=4"),
    *("trainer.val_samples=64", "trainer.num_threads=1", "solver.images=2", "solver.steps=2", "search.workers=1"),
    *("search.confirm.finalists=1", "search.confirm.seeds=3", "search.confirm.test_samples=64"),
    *('search.enqueue=[["optimizer=muon"]]', "search.kinds.activation=[silu,relu,swish]"),
    "search.kinds.optimizer=[adamw,muon]",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "runs"
    with tarfile.open(PACKED) as packed:
        packed.extractall(folder, filter="data")
    return folder


def test_its_targets_have_moved_and_each_is_known(store: Path) -> None:
    files = list(store.glob("artifacts/*/artifacts/config.yaml"))
    named = {target for file in files for target in re.findall(r"_target_: (\S+)", file.read_text())}
    assert len(files) > 5 and {"denoise.unet.UNet", "denoise.denoiser.Denoiser"} <= named
    assert {moved.now(target) for target in named if target.startswith("denoise.unet")} == {"denoise.model.unet.UNet"}


def test_its_report_and_its_best_are_shown(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"store={store}"]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "better by 0.0920 than your config as it is" in said and "│ 4 │" in said
    assert main(["best", f"store={store}"]) == 0
    best = OmegaConf.load(store / "best.yaml")
    assert "optimizer=muon" in capfd.readouterr().out and best.optimizer.lr == pytest.approx(0.033935498560138375)


def test_its_best_is_reproduced(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same number; to the last bit where the processor is of the kind that it was then."""
    main(["reproduce", f"store={store}"])
    found = re.search(r"val/loss +│ ([\d.]+) +│ ([\d.]+)", capfd.readouterr().out)
    assert found and float(found[1]) == 0.8627811796031892 == pytest.approx(float(found[2]), rel=1e-3)


def test_its_search_goes_on_under_its_name(store: Path) -> None:
    assert main(["search", f"store={store}", *ASKED, "search.n_trials=6", "search.confirm.finalists=0"]) == 0
    url = sqlite.url(store / "optuna.db")
    (name,) = optuna.get_all_study_names(url)
    trials = optuna.load_study(study_name=name, storage=url).trials
    assert [trial.number for trial in trials] == list(range(6)) and name == "digits-unet-joint-0768ebee"
    assert json.dumps(trials[5].user_attrs["overrides"]).count("activation=") == 1

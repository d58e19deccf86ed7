"""denoise.load and denoise.sample: a trained denoiser in a notebook, without a search's program.

What comes from a tracker or a folder is data: overrides that are checked and composed against the catalogue here, and
weights in a file of numbers. Nothing is unpickled.
"""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from omegaconf import DictConfig
from torch import Tensor, nn

from denoise.config import catalog, trust
from denoise.config.compose import compose
from denoise.data import images as data_images
from denoise.data.images import Images
from denoise.denoiser.preconditioned import Denoiser
from denoise.errors import UserError
from denoise.inference.profile import stand_in
from denoise.training.draw import draw, read_weights
from denoise.training.train import sha256

WEIGHTS, DESCRIPTION = "weights.safetensors", "denoiser.json"  # of a folder
RUN = re.compile(r"[0-9a-f]{32}")
MODEL = re.compile(r"models:/([^/@]+)(?:@([\w.-]+)|/(\d+))")


class Trained(nn.Module):
    """D(x; sigma) with trained, averaged weights, as `load` gives it: (B, C, H, W), (B,) -> (B, C, H, W).

    cfg: the config that it was trained by; data: of the shape that it was trained on, perhaps without the images.
    """

    def __init__(self, cfg: DictConfig, denoiser: Denoiser, data: Images) -> None:
        super().__init__()
        self.cfg, self.denoiser, self.data = cfg, denoiser, data

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.denoiser(x, sigma, labels)


def load(what: str | Path, store: str | Path | None = None, config_dir: str | Path | None = None) -> Trained:
    """Load a trained denoiser, in eval mode, with the averaged weights.

    - what: the id of a run, models:/NAME@champion or models:/NAME/VERSION, or a folder of a registered model.
    - store: where `make search` keeps its runs; None: where MLflow was told to look (MLFLOW_TRACKING_URI,
      mlflow.set_tracking_uri), else the folder `runs`.
    - config_dir: the folder of your own components, for a run that has some.

    Errors: UserError for what is not there, is not whole, or would choose code.
    """
    if config_dir is not None:
        catalog.add_folder(Path(config_dir))
    if Path(what).is_dir():
        return _of_folder(Path(what))
    if not RUN.fullmatch(str(what)) and not MODEL.fullmatch(str(what)):
        raise UserError(
            f"{what}: no folder of this name; legal: the id of a run (32 of 0-9a-f), models:/NAME@champion, "
            "models:/NAME/VERSION, the folder of a registered model"
        )
    return _of_tracker(str(what), store)


def sample(model: Trained, n: int = 16, seed: int = 0) -> Tensor:
    """Draw n images as `make sample` does from this seed: (n, C, H, W); pictures in [-1, 1].

    Errors: UserError for what `load` did not give, and for no images.
    """
    if not isinstance(model, Trained):
        raise UserError(f"sample: {type(model).__name__} is no trained denoiser; give what denoise.load returns")
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if type(value) is not int or value < least:
            raise UserError(f"sample: {name}={value!r}; legal: whole numbers from {least}")
    images = draw(model.cfg, model.denoiser, model.data, seed, n)
    return images.clamp(-1, 1) if model.data.kind == "picture" else images


def _of_folder(folder: Path) -> Trained:
    place = folder if (folder / DESCRIPTION).is_file() else folder / "weights"
    try:
        said = json.loads((place / DESCRIPTION).read_text(encoding="utf-8"))
        overrides, digest, profile = said["overrides"], said["weights_sha256"], said["data"]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: has no {DESCRIPTION}; legal: the folder of a registered model, as mlflow.artifacts."
            'download_artifacts("models:/NAME@champion") fetches it'
        ) from error
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UserError(f"{place / DESCRIPTION}: cannot be read ({type(error).__name__}: {error})") from error
    cfg = _composed(overrides, str(place / DESCRIPTION))
    return _made(cfg, _data(cfg, profile, str(place / DESCRIPTION)), place / WEIGHTS, digest)


def _of_tracker(what: str, store: str | Path | None) -> Trained:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    place = str(store if store is not None else "the tracker")
    try:
        client, place, home = _tracker(what, store)
        run = client.get_run(what if RUN.fullmatch(what) else _run_of_model(client, what))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(f"{what}: not found in {place} ({' '.join(str(error).split())[:120]})") from error
    run_id, tags = run.info.run_id, run.data.tags
    cfg = _composed(_json(tags.get("overrides"), what), what)
    profiles = [each.dataset.profile for each in run.inputs.dataset_inputs] if run.inputs is not None else []
    data = _data(cfg, _json(profiles[0], what), what) if profiles else data_images.load(cfg.data)
    with TemporaryDirectory() as folder:
        path = home / "artifacts" / run_id / "artifacts" / "weights" / WEIGHTS if home is not None else None
        try:
            if path is None or not path.is_file():
                path = Path(client.download_artifacts(run_id, f"weights/{WEIGHTS}", folder))
        except (MlflowException, OSError) as error:
            raise UserError(
                f"{what}: kept no weights (a search keeps those of its best trial and its baseline); "
                f"reproduce trains run {run_id} again"
            ) from error
        return _made(cfg, data, path, tags.get("weights_sha256"))


def _data(cfg: DictConfig, profile: Any, where: str) -> Images:
    """Data of the shape that a profile says; with conditions, which samples are drawn with, the data themselves."""
    told = isinstance(profile, dict) and profile.get("conditions")
    return data_images.load(cfg.data) if told else stand_in(profile, where)


def _tracker(what: str, store: str | Path | None) -> tuple[Any, str, Path | None]:
    """MLflow's client, where it looks, and the store that it is of, if it is."""
    import mlflow
    from mlflow.tracking import MlflowClient, is_tracking_uri_set

    if store is None and is_tracking_uri_set():
        return MlflowClient(), "the tracker that MLflow was told", None
    home = Path(store if store is not None else "runs").expanduser().resolve()
    if not (home / "mlflow.db").is_file():
        raise UserError(
            f"{what}: no mlflow.db in {home}; give store=FOLDER, where a search keeps its runs, or set "
            "MLFLOW_TRACKING_URI"
        )
    try:  # MLflow tries for minutes
        with closing(sqlite3.connect(f"{(home / 'mlflow.db').as_uri()}?mode=ro", uri=True)) as opened:
            opened.execute("SELECT 1 FROM runs LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise UserError(f"{what}: {home / 'mlflow.db'} cannot be read ({error})") from error
    uri = f"sqlite:///{quote(str(home / 'mlflow.db'), safe='/')}"
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri), str(home), home


def _run_of_model(client: Any, what: str) -> str:
    found = MODEL.fullmatch(what)
    assert found is not None
    name, alias, version = found.groups()
    if alias is not None:
        return str(client.get_model_version_by_alias(name, alias).run_id)
    return str(client.get_model_version(name, version).run_id)


def _json(text: Any, where: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: is no training; a run of train or a trial of a search is one") from error


def _composed(overrides: Any, where: str) -> DictConfig:
    """The config of a record's overrides. Errors: UserError where they are more than choices and values."""
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise UserError(f"{where}: its overrides are not a list of overrides; the record has been changed")
    trust.check_overrides(overrides, where)
    return compose(overrides).cfg


def _made(cfg: DictConfig, data: Images, weights: Path, digest: str | None) -> Trained:
    denoiser = read_weights(cfg, data, weights)
    if digest is not None and sha256(denoiser.state_dict()) != digest:
        raise UserError(f"{weights}: not the weights that were recorded; reproduce trains the run again")
    return Trained(cfg, denoiser, data).eval()

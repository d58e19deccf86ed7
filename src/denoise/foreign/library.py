"""A model of a library, by the file that describes it."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from denoise.errors import UserError, choose
from denoise.paths import place

WEIGHTS = ("random", "keep")
WITHIN = ("", "unet", "transformer")  # folders of a pipeline that hold a denoiser


def unnamed(**settings: Any) -> nn.Module:
    """Refuse to be a model: it stands where the user's own class is to be named."""
    raise UserError(
        "model: no class of yours is named; model._target_=net.Net with --config-dir FOLDER takes Net of FOLDER/net.py"
    )


def diffusers(path: str | None = None, weights: str = "random") -> nn.Module:
    """The model of diffusers that a config.json describes, with random weights, or with those that lie beside it.

    path: the file, its folder, or the folder of a pipeline. Errors: UserError.
    """
    if path is None:
        raise UserError("model.path=null: model=diffusers needs a folder with config.json; give model.path=FOLDER")
    if weights not in WEIGHTS:
        raise UserError(f"model.weights={weights}: unknown; {choose(str(weights), WEIGHTS)}")
    folder, config = _config(path)
    try:
        import diffusers as library
    except ImportError as error:
        raise UserError(
            "model=diffusers: the library diffusers is not installed; make install EXTRA=diffusers brings it"
        ) from error
    name = str(config.get("_class_name"))
    found: Any = getattr(library, name, None) if name.isidentifier() else None
    known = isinstance(found, type) and issubclass(found, library.ModelMixin)
    if not known:
        raise UserError(
            f"model.path={path}: its _class_name is {name}, which is no model of diffusers {library.__version__}"
        )
    try:
        if weights == "keep":
            made = found.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
        else:
            made = found.from_config(config)
    except OSError as error:
        raise UserError(
            f"model.path={path}: model.weights=keep found no weights ({' '.join(str(error).split())[:120]}); take "
            "model.weights=random, or the folder that save_pretrained has written"
        ) from error
    assert isinstance(made, nn.Module)
    return made


def _config(path: str) -> tuple[Path, dict[str, Any]]:
    where = f"model.path={path}"
    given = place(path, where)
    files = [given] if given.is_file() else [given / name / "config.json" for name in WITHIN]
    file = next((each for each in files if each.is_file()), None)
    if file is None:
        raise UserError(f"{where}: holds no config.json; give the folder that save_pretrained has written")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: {file.name} cannot be read ({' '.join(str(error).split())[:80]})") from error
    if not isinstance(config, dict) or "_class_name" not in config:
        raise UserError(f"{where}: {file.name} names no _class_name; give the config.json of a model of diffusers")
    return file.parent, config

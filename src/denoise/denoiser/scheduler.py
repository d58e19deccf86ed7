"""The denoiser that a scheduler's config describes."""

import json
import math
from pathlib import Path
from typing import Any

from torch import nn

from denoise.denoiser.edm import EDM
from denoise.denoiser.flow import Flow
from denoise.denoiser.ladder import X0, Epsilon, V
from denoise.denoiser.preconditioned import Denoiser
from denoise.errors import UserError, choose
from denoise.paths import place

TARGETS = {"epsilon": Epsilon, "v_prediction": V, "sample": X0}  # by diffusers' names


def scheduler(backbone: nn.Module, path: str | None = None) -> Denoiser:
    """The denoiser that a diffusers scheduler_config.json describes; path: the file, or a folder that has it.

    Errors: UserError for what is none, and for a prediction type that is not known.
    """
    if path is None:
        raise UserError("denoiser.path=null: denoiser=scheduler reads a file; give a scheduler_config.json")
    content = _read(place(path, f"denoiser.path={path}"))
    name, get = str(content["_class_name"]), {key: value for key, value in content.items() if value is not None}.get
    if name.startswith("FlowMatch"):
        return Flow(backbone, math.log(float(get("shift", 1.0))))
    if name.startswith("EDM"):
        return EDM(backbone, float(get("sigma_data", 0.5)))
    kind = str(get("prediction_type", "epsilon"))
    if kind not in TARGETS:
        raise UserError(f"denoiser.path={path}: prediction_type {kind}; {choose(kind, TARGETS)}")
    return TARGETS[kind](
        backbone,
        str(get("beta_schedule", "linear")),
        float(get("beta_start", 1e-4)),
        float(get("beta_end", 0.02)),
        int(get("num_train_timesteps", 1000)),
        betas=get("trained_betas"),
        zero_snr=bool(get("rescale_betas_zero_snr", False)),
    )


def _read(path: Path) -> dict[str, Any]:
    inside = [path / "scheduler" / "scheduler_config.json", path / "scheduler_config.json"]
    file = next((each for each in inside if each.exists()), path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"denoiser.path={path}: cannot be read as a scheduler's config ({error})") from error
    if not isinstance(content, dict) or "_class_name" not in content:
        raise UserError(f"denoiser.path={path}: is no scheduler's config, which names its _class_name")
    return content

"""A registered model: what MLflow reads of it, and how mlflow.pyfunc loads it, from its config and a file of numbers.

mlflow.pytorch.load_model wants a pickle, or a graph by torch.export, which takes seconds a model; there is neither.
"""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from denoise.inference.load import DESCRIPTION, Trained, load, sample

INPUTS = [{"name": "n", "type": "long", "required": True}, {"name": "seed", "type": "long", "required": False}]


class Sampler:
    """What mlflow.pyfunc calls: a table with the columns n and seed, a row a draw -> images (N, C, H, W), float32."""

    def __init__(self, model: Trained) -> None:
        self.model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Draw n images from each row's seed, 0 where there is none."""
        seeds = model_input["seed"] if "seed" in model_input else [0] * len(model_input["n"])
        drawn = [sample(self.model, int(n), int(seed)) for n, seed in zip(model_input["n"], seeds, strict=True)]
        return np.concatenate([images.numpy(force=True) for images in drawn])


def _load_pyfunc(path: str) -> Sampler:
    """MLflow's hook."""
    return Sampler(load(Path(path)))


def files(overrides: Sequence[str], profile: dict[str, Any], weights_sha256: str, run_id: str) -> dict[str, bytes]:
    """What lies beside weights.safetensors in the folder of a registered model."""
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, *profile["shape"]]}}]
    python = {"loader_module": __name__, "python_version": platform.python_version()}
    model = {"artifact_path": "weights", "run_id": run_id, "flavors": {"python_function": python}}
    model["signature"] = {"inputs": json.dumps(INPUTS), "outputs": json.dumps(outputs), "params": None}
    said = {"overrides": list(overrides), "data": profile, "weights_sha256": weights_sha256}
    return {"MLmodel": yaml.safe_dump(model).encode(), DESCRIPTION: json.dumps(said, indent=1).encode()}

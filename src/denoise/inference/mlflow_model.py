"""A registered model: what MLflow reads of it, and how mlflow.pyfunc loads it, from its config and a file of numbers.

mlflow.pytorch.load_model wants a pickle, or a graph by torch.export. There is no pickle; the graph, which takes seconds
to make, is there where tracking.graph asks for it.
"""

import io
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from denoise.errors import UserError
from denoise.fault import line
from denoise.inference.load import DESCRIPTION, Trained, load, sample

MLMODEL, GRAPH = "MLmodel", "graph"  # a file and a folder beside the weights
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
    return {MLMODEL: yaml.safe_dump(model).encode(), DESCRIPTION: json.dumps(said, indent=1).encode()}


def graph(folder: Path) -> dict[str, bytes]:
    """What mlflow.pytorch.load_model reads of a registered model's folder: D(x, sigma) as a graph, nothing pickled.

    (N, C, H, W), (N,) -> (N, C, H, W) for any N, on a CPU; of a class-conditional model D(x, sigma, labels). It runs
    without this project. Errors: UserError for a network that torch.export does not take.
    """
    model = load(folder)
    given = [torch.zeros(2, *model.data.shape), torch.ones(2)]
    given += [torch.zeros(2, dtype=torch.int64)] if model.cfg.model.get("class_conditional") else []
    shapes, written = tuple({0: torch.export.Dim.AUTO} for _ in given), io.BytesIO()
    try:
        with torch.no_grad():
            program = torch.export.export(model, tuple(given), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, written)
    except Exception as error:  # whatever a network has that a graph has not
        raise UserError(f"tracking.graph: torch.export does not take this network ({line(error)[:160]})") from error
    described = yaml.safe_load((folder / MLMODEL).read_text(encoding="utf-8"))
    described["flavors"]["pytorch"] = {"model_data": GRAPH, "pytorch_version": str(torch.__version__)}
    return {MLMODEL: yaml.safe_dump(described).encode(), f"{GRAPH}/model.pt2": written.getvalue()}

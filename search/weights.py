"""Weights on their way from a training to its run: saved whole, and believed only where they are those recorded."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from denoise.train import sha256
from search.tracking import Run


def keep(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Save weights where they wait: written beside it and renamed, so never half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, partial)
    partial.replace(path)


def put(path: Path, run: Run) -> bool:
    """Put weights that wait with their run; False where they are not those that it has recorded."""
    content = path.read_bytes()
    whole = are(content, run.tracker.record(run.run_id).tags.get("weights_sha256", ""))
    if whole:
        run.artifacts({"weights.safetensors": content}, "weights")
    return whole


def are(content: bytes, recorded: str) -> bool:
    """Tell whether the content of a safetensors file is the weights of this sha256."""
    try:
        return sha256(load(content)) == recorded
    except (SafetensorError, ValueError, KeyError, TypeError):  # whatever a parser says of bytes that are none of its
        return False

"""Weights on their way from a training to its run: saved whole, and believed only where they are those recorded."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file

from denoise.errors import UserError
from denoise.training.train import Result, sha256
from search.console.printed_commands import make
from search.tracking.record import Record
from search.tracking.tags import Tag
from search.tracking.tracker import Run, Tracker

NAME = "weights.safetensors"
FILE = f"weights/{NAME}"  # of a run's artifacts


def keep(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Save weights where they wait: written beside it and renamed, so never half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, partial)
    partial.replace(path)


def put(path: Path, run: Run) -> bool:
    """Put weights that wait with their run; False where they are not those that it has recorded."""
    content = path.read_bytes()
    whole = are(content, run.tracker.record(run.run_id).tags.get(Tag.WEIGHTS_SHA256, ""))
    if whole:
        run.artifacts({NAME: content}, "weights")
    return whole


def fetch(tracker: Tracker, recorded: Record, into: Path) -> Path:
    """Fetch a run's weights. Errors: UserError where it has none, or others than it has recorded."""
    path, known = tracker.artifact(recorded.run_id, FILE, into), recorded.tags.get(Tag.WEIGHTS_SHA256)
    if known is not None and not are(path.read_bytes(), known):
        raise UserError(
            f"RUN={recorded.run_id}: its weights are not those that it recorded; "
            f"{make('reproduce', run=recorded.run_id)} trains it again and puts them back"
        )
    return path


def put_back(tracker: Tracker, recorded: Record, result: Result) -> bool:
    """Give a run the weights of a training of the same, where its own are gone or others; whether that was so."""
    if result.weights_sha256 != recorded.tags.get(Tag.WEIGHTS_SHA256):
        return False
    with TemporaryDirectory() as folder:
        try:
            fetch(tracker, recorded, Path(folder))
            return False
        except UserError:
            content = save({name: tensor.cpu().contiguous() for name, tensor in result.weights.items()})
            Run(tracker, recorded.run_id).artifacts({NAME: content}, "weights")
            return True


def are(content: bytes, recorded: str) -> bool:
    """Tell whether the content of a safetensors file is the weights of this sha256."""
    return bool(recorded) and digest(content) == recorded


def digest(content: bytes) -> str:
    """The sha256 of the weights in the content of a safetensors file; empty where it is none."""
    try:
        return sha256(load(content))
    except (SafetensorError, ValueError, KeyError, TypeError):  # whatever a parser says of bytes that are none of its
        return ""

"""Weights of an earlier training: an initializer that takes what fits, and says what does not and why."""

import hashlib
import io
import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from denoise.config import catalog
from denoise.errors import UserError
from denoise.initializer.stage import Report, Scope
from denoise.paths import place

ROOT = "backbone."  # where a denoiser keeps its backbone: a file of a bare backbone is taken too


def pretrained(
    tensor: Tensor,
    activation: nn.Module,
    path: str | None = None,
    run: str | None = None,
    otherwise: str = "torch_default",
) -> "Weights":
    """w = that of the file `path`, by name and shape; what the file lacks starts by the initializer `otherwise`.

    More than weights is taken: biases, normalizations, learned activations and running averages, of all parts that
    have this initializer, and of layers that would start at zero. A `run` is made a path by whoever can fetch it.
    """
    if catalog.build("initializer", otherwise, tensor, activation) is not None:
        raise UserError(f"initializer.otherwise={otherwise}: needs a stage of its own; take one such as torch_default")
    return Weights(path, run)


@dataclass(frozen=True)
class Weights:
    """Take the weights of a file into a network."""

    path: str | None
    run: str | None
    needs_batch: bool = False

    @torch.no_grad()
    def finish(self, denoiser: Any, batch: tuple[Any, ...], scope: Scope) -> Report:
        """Copy what has the name and the shape. Errors: UserError for no file, no weights, or not a name of ours."""
        weights, digest = read(self.file())
        own: dict[str, Tensor] = denoiser.state_dict()
        outer, inner = prefix(weights, own)
        ours = {name: inner + name[len(outer) :] for name in weights if name.startswith(outer)}
        theirs = {wanted: name for name, wanted in ours.items()}
        if not theirs.keys() & own.keys():
            raise UserError(
                f"initializer.path={self.path}: no name in it is one of this model's; it has {next(iter(weights))} and "
                f"the like, the model {next(iter(own))}; give weights that the verb train has written"
            )
        taken: list[str] = []
        left: list[tuple[str, str]] = []
        for name, value in own.items():
            if name.rpartition(".")[0].removeprefix(ROOT) not in scope.modules:
                reason = "its part has another initializer"
            else:
                reason = unfit(weights[theirs[name]], value) if name in theirs else "not in the file"
            if reason:
                left.append((name, reason))
            else:
                value.copy_(weights[theirs[name]])
                taken.append(name)
        unused = [
            (name, "only in the file: nothing here has this name") for name in weights if ours.get(name) not in own
        ]
        summary = f"pretrained {self.path}: {len(taken)} of {len(own)} tensors taken, {len(left)} not"
        summary += f"; {len(unused)} in the file not used" if unused else ""
        return Report(summary, taken, left + unused, digest)

    def file(self) -> Path:
        """Where the weights lie. Errors: UserError."""
        if self.path is not None and self.run is not None:
            raise UserError(f"initializer.path={self.path} and initializer.run={self.run}: give one of them")
        if self.run is not None:
            raise UserError(
                f"initializer.run={self.run}: a run is fetched by the verbs train and search; give initializer.path"
            )
        if self.path is None:
            raise UserError(
                "initializer.path=null: pretrained needs weights; give initializer.path=FILE, or "
                "initializer.run=<mlflow run id>"
            )
        return place(self.path, f"initializer.path={self.path}")


def prefix(weights: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[str, str]:
    """What to take off the file's names and to put before the rest, so that the most of them are ours.

    A Lightning checkpoint says denoiser.backbone.x, a compiled model _orig_mod.backbone.x, a bare backbone x.
    """
    votes: Counter[tuple[str, str]] = Counter()
    for name in weights:
        parts = name.split(".")
        for i in range(len(parts)):
            rest = ".".join(parts[i:])
            votes.update((name[: len(name) - len(rest)], inner) for inner in ("", ROOT) if inner + rest in own)
    return max(votes, key=lambda form: (votes[form], -len("".join(form))), default=("", ""))


def unfit(theirs: Any, own: Tensor) -> str:
    """Why a value of the file cannot stand here; "" where it can."""
    if not isinstance(theirs, Tensor):
        return f"the file has a {type(theirs).__name__} here, not a tensor"
    if theirs.shape != own.shape:
        return f"has the shape {tuple(theirs.shape)} in the file, {tuple(own.shape)} here"
    if theirs.is_floating_point() != own.is_floating_point() or theirs.is_complex():
        return f"is of type {theirs.dtype} in the file, {own.dtype} here"
    return "" if theirs.isfinite().all() else "is not finite in the file"


def read(path: Path) -> tuple[dict[str, Any], str]:
    """Read a file of weights by name, and its sha256.

    safetensors, or a torch checkpoint, of which its `state_dict` where it has one. Nothing in it is run
    (weights_only). Errors: UserError, one line.
    """
    where = f"initializer.path={path}"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{where}: no such file; give the path of a .safetensors, .ckpt or .pt file") from error
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror})") from error
    try:
        if content[8:9] == b"{":
            found: Any = safetensors.torch.load(content)
        else:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):
            raise UserError(
                f"{where}: would run code as it is read, so it is not; save tensors alone, by name"
            ) from error
        raise UserError(f"{where}: not a file of weights; give safetensors or a torch checkpoint") from error
    except Exception as error:  # whatever a parser says of bytes that are none of its own
        raise UserError(f"{where}: not a file of weights; give safetensors or a torch checkpoint") from error
    while isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        keys = ", ".join(map(str, list(found)[:5])) if isinstance(found, Mapping) else type(found).__name__
        raise UserError(f"{where}: holds no weights by name ({keys or 'nothing'}); save a state_dict")
    return {str(name): value for name, value in found.items()}, hashlib.sha256(content).hexdigest()

"""Arrays that the user has: images or latents in one file, with labels and whatever else goes with them."""

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoise.data.cache import kept
from denoise.data.collect import Listed, collect
from denoise.data.folder import existing
from denoise.data.images import SLACK, Images, chunks
from denoise.errors import UserError

ENDINGS = (".npz", ".npy", ".pt", ".pth", ".safetensors")
FORM = "x of (N, C, H, W)"


def tensors(root: str | None = None, memory: float = 4.0) -> Images:
    """Read `x` (N, C, H, W), uint8 or floats, perhaps `y` (N,), and further arrays of N rows, which are conditions.

    Bytes, and floats in [-1, 1] of one or three channels, are pictures; anything else is a latent. 70 % are to train,
    15 % for validation, 15 % for the test. Nothing in the file is run. Errors: UserError.
    """
    path = existing(root, "a file of arrays, .npz, .npy, .pt or .safetensors,")
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"data.root={root}: not a file of arrays; legal: {', '.join(ENDINGS)}")
    found = path.stat()
    told = {"tensors": str(path.resolve()), "size": found.st_size, "changed": found.st_mtime_ns}
    return kept(told, memory, partial(_made, path, f"data.root={root}"))


def _made(path: Path, where: str, allocate: Any) -> Images:
    try:
        arrays = _read(path)
    except Exception as error:  # whatever a damaged file makes a library say
        raise UserError(f"{where}: cannot be read ({' '.join(str(error).split())[:160]})") from error
    images = _images(arrays, where)
    count = len(images)
    labels, classes = _labels(arrays.get("y"), count, where)
    conditions = {name: array for name, array in arrays.items() if name not in ("x", "y")}
    for name, array in conditions.items():
        if array.ndim < 1 or len(array) != count:
            raise UserError(f"{where}: {name} is of shape {tuple(array.shape)}, x has {count} rows; give one for each")
    names = [f"row {i}" for i in range(count)]
    listed = Listed(where, names, labels, [""] * count, classes, {n: _plain(a) for n, a in conditions.items()})
    kind = np.uint8 if images.dtype == torch.uint8 else np.float32
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    data = collect(listed, lambda i: (_plain(images[i]).numpy(), ()), shape, kind, allocate, 0.0)
    return replace(data, kind="picture" if _are_pictures(images) else "latent")


def _read(path: Path) -> Mapping[str, Tensor]:
    form = path.suffix.lower()
    if form == ".npy":
        return {"x": torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))}
    if form == ".npz":
        if not zipfile.is_zipfile(path):
            raise ValueError("no .npz file")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    if form == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    loaded = {"x": loaded} if isinstance(loaded, Tensor) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(array, Tensor) for array in loaded.values()):
        raise ValueError("neither a tensor nor a mapping of names to tensors")
    return loaded


def _images(arrays: Mapping[str, Tensor], where: str) -> Tensor:
    if "x" not in arrays:
        raise UserError(f"{where}: has no array x, but {', '.join(sorted(arrays)) or 'none'}; {FORM} is needed")
    x = arrays["x"]
    shape = tuple(x.shape)
    if x.ndim != 4 or 0 in shape:
        raise UserError(f"{where}: x is of shape {shape}; {FORM} is needed")
    if shape[3] in (1, 3) and shape[1] == shape[2] > 4:
        raise UserError(f"{where}: x is of shape {shape}, with the channels last; {FORM} is needed")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise UserError(f"{where}: x is {x.dtype}; give uint8, or floats")
    return x


def _labels(y: Tensor | None, count: int, where: str) -> tuple[list[int], list[str]]:
    if y is None:
        return [0] * count, []
    if y.shape != (count,) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UserError(f"{where}: y is {y.dtype} of shape {tuple(y.shape)}; give whole numbers of shape ({count},)")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= max(1000, count):
        raise UserError(f"{where}: y is {low} to {high}; legal: classes from 0, fewer than images")
    return y.tolist(), [str(number) for number in range(high + 1)]


def _plain(array: Tensor) -> Tensor:
    """Floats of any precision in single precision, all else as it is."""
    return array.float() if array.is_floating_point() else array


def _are_pictures(images: Tensor) -> bool:
    if images.dtype == torch.uint8:
        return True
    return images.shape[1] in (1, 3) and all(bool(part.abs().max() <= SLACK) for part in chunks(images))

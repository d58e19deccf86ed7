"""A data set of Hugging Face's on disk: saved, or a folder of images, or parquet files. Nothing is downloaded."""

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from denoise.data.cache import kept
from denoise.data.collect import Listed, Read, collect
from denoise.data.folder import NAMES, check_channels, existing, sides
from denoise.data.images import Images
from denoise.data.pixels import pixels
from denoise.errors import UserError, choose


def dataset(
    root: str | None = None,
    image: str = "image",
    label: str | None = None,
    image_size: int | Sequence[int] = 32,
    channels: int = 3,
    flip: bool = False,
    most_unreadable: float = 0.05,
    memory: float = 4.0,
) -> Images:
    """Read the column `image` of every row, as data=folder reads a file, and the classes in the column `label`.

    Splits named train, validation (val, valid) and test are splits; one that is not there is cut out of the training
    images, 15 %. Errors: UserError, also where the package datasets is not installed.
    """
    size = sides(image_size)
    check_channels(channels)
    path = existing(root, "the folder that save_to_disk has written, of images, or of parquet files")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    told: dict[str, Any] = {
        "dataset": str(path.resolve()),
        "image": image,
        "label": label,
        "size": size,
        "channels": channels,
    }
    told |= {"files": [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]}
    told |= {"most_unreadable": most_unreadable}
    where = f"data.root={root}"
    data = kept(told, memory, partial(_made, path, where, image, label, size, channels, most_unreadable))
    return replace(data, flip=flip)


def _made(
    path: Path,
    where: str,
    image: str,
    label: str | None,
    size: tuple[int, int],
    channels: int,
    most_unreadable: float,
    allocate: Any,
) -> Images:
    with tempfile.TemporaryDirectory(prefix="denoise-", ignore_cleanup_errors=True) as scratch:
        listed, read = _listed(_opened(path, scratch, where), image, label, where, size, channels)
        return collect(listed, read, (channels, *size), np.uint8, allocate, most_unreadable)


def _listed(
    parts: Mapping[str, Any], image: str, label: str | None, where: str, size: tuple[int, int], channels: int
) -> tuple[Listed, Read]:
    for key, column in (("image", image), ("label", label)):
        for part in parts.values():
            if column is not None and column not in part.column_names:
                raise UserError(f"{where}: no column data.{key}={column}; {choose(column, part.column_names)}")
    rows = [(split, i) for split, part in parts.items() for i in range(len(part))]
    labels, classes = _labels(parts, label, where)
    names = [f"{split} row {i}" for split, i in rows]
    listed = Listed(where, names, labels, [NAMES.get(split.lower(), "") for split, _ in rows], classes)

    def read(number: int) -> Any:
        split, i = rows[number]
        return pixels(_file(parts[split][i][image]), size, channels)

    return listed, read


def _opened(path: Path, scratch: str, where: str) -> Mapping[str, Any]:
    """The splits by name, their images not decoded; what the library writes for itself goes into `scratch`."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "data=dataset: needs the package datasets, which is not installed; make install EXTRA=diffusers"
        ) from error
    parquet = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    datasets.disable_progress_bars()
    try:
        if path.is_dir() and any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(path))
        elif parquet:
            found = datasets.load_dataset("parquet", data_files=_by_split(parquet), cache_dir=scratch)
        else:
            found = datasets.load_dataset("imagefolder", data_dir=str(path), cache_dir=scratch)
    except Exception as error:  # whatever a damaged file makes the library say
        raise UserError(f"{where}: no data set that can be read ({' '.join(str(error).split())[:160]})") from error
    parts = dict(found) if isinstance(found, dict) else {"train": found}
    for name, part in parts.items():
        for column, feature in part.features.items():
            if isinstance(feature, datasets.Image):
                parts[name] = parts[name].cast_column(column, datasets.Image(decode=False))
    return parts


def _by_split(files: Sequence[Path]) -> dict[str, list[str]]:
    """Parquet files by the split that their names begin with, train where they name none."""
    found: dict[str, list[str]] = {}
    for file in files:
        word = file.stem.replace("_", "-").partition("-")[0].lower()
        found.setdefault(NAMES.get(word, "train"), []).append(str(file))
    return found


def _file(value: Any) -> Any:
    """What Pillow can open: bytes, or the path of a file."""
    if isinstance(value, Mapping):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if not isinstance(value, bytes | str):
        raise ValueError(f"{type(value).__name__} is no image")
    return io.BytesIO(value) if isinstance(value, bytes) else value


def _labels(parts: Mapping[str, Any], label: str | None, where: str) -> tuple[list[int], list[str]]:
    if label is None:
        return [0] * sum(map(len, parts.values())), []
    values = [value for part in parts.values() for value in part[label]]
    names = getattr(next(iter(parts.values())).features[label], "names", None)
    if names is not None and all(isinstance(value, int) and 0 <= value < len(names) for value in values):
        return values, list(names)
    if not all(isinstance(value, int | str) for value in values):
        raise UserError(f"{where}: data.label={label}: not every row has a class; give whole numbers or words")
    classes = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    number = {value: i for i, value in enumerate(classes)}
    return [number[value] for value in values], [str(value) for value in classes]

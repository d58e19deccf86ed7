"""What of a data set goes with a run: how many images of which shape, and some of them to look at."""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig

from denoise.config.legal import is_lightning
from denoise.data import images as data_images
from denoise.data.images import KINDS, SPLITS, Images
from denoise.errors import UserError
from denoise.pictures.grid import grid_png

ROWS, COLUMNS = 4, 8  # of the mosaic
LARGEST = 1 << 16  # of an extent that is believed


def profile(cfg: DictConfig) -> dict[str, Any]:
    """The rows of each split, the shape (C, H, W) of an image, classes, the kind of pixels, the conditions' names.

    Of the batches of a LightningModule's own loader nothing is known.
    """
    if is_lightning(cfg.model):
        return {"kind": "batches"}
    data = data_images.load(cfg.data)
    rows = {split: len(data.images[split]) for split in SPLITS}
    shown = {"num_rows": sum(rows.values()), "rows": rows, "shape": list(data.shape)}
    return shown | {"num_classes": data.num_classes, "kind": data.kind, "conditions": sorted(data.conditions)}


def stand_in(said: Any, where: str) -> Images:
    """Data without an image, of the shape that a profile says: enough to build a network of that shape.

    Errors: UserError for what is no profile.
    """
    shape = said.get("shape") if isinstance(said, Mapping) else None
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(map(_extent, shape))
        or not _extent(said.get("num_classes"))
        or said.get("kind") not in KINDS
    ):
        raise UserError(f"{where}: says no shape of an image, number of classes and kind ({'|'.join(KINDS)})")
    images = {split: torch.empty(0, *shape) for split in SPLITS}
    labels = {split: torch.empty(0, dtype=torch.int64) for split in SPLITS}
    return Images(images, labels, said["num_classes"], said["kind"])


def mosaic(cfg: DictConfig) -> bytes:
    """4 x 8 training images, evenly spread over the data set, as PNG; empty for batches of a LightningModule's own."""
    if is_lightning(cfg.model):
        return b""
    data = data_images.load(cfg.data)
    count = len(data.images["train"])
    places = torch.arange(min(ROWS * COLUMNS, count)) * count // min(ROWS * COLUMNS, count)
    return grid_png(data.look_up("train", places), data.kind, columns=COLUMNS)


def _extent(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST

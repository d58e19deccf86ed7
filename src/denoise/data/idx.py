"""Data sets in idx files, the form of MNIST and Fashion-MNIST."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denoise.data.images import Images, floats
from denoise.data.split import resize, split
from denoise.errors import UserError
from denoise.paths import place

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read_idx(path: Path) -> Tensor:
    """Read one idx file of bytes, gzipped or not: a uint8 tensor of the shape in its header.

    Errors: UserError for a file that is not idx, not of bytes, or cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, ndim = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{ndim}I", raw[4 : 4 + 4 * ndim])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UserError(f"data.root: cannot read {path} as an idx file ({error}); fetch it again") from error
    body = memoryview(raw)[4 + 4 * ndim :]
    if zero != 0 or kind != 8 or len(body) != math.prod(shape):
        raise UserError(f"data.root: {path} is not a whole idx file of bytes; fetch it again")
    return torch.from_numpy(np.frombuffer(body, dtype=np.uint8).copy()).view(*shape)


def fashion_mnist(root: str | None = None, image_size: int = 28) -> Images:
    """Load the 70,000 images of Fashion-MNIST: 51,000 train, 9,000 validation, its own 10,000 test.

    `root` holds the four idx files, gzipped or not; without it they are looked for where Debian puts them.
    Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747.
    """
    folder = place(root or FASHION_MNIST, f"data.root={root}")
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for part, stems in STEMS.items():
        paths = [next((p for p in (folder / s, folder / f"{s}.gz") if p.exists()), None) for s in stems]
        if None in paths:
            stem = stems[paths.index(None)]
            raise UserError(
                f"data.root={root}: no {stem}[.gz] in {folder}; either install Debian's package "
                "(apt-get install dataset-fashion-mnist) or put the four idx files of Fashion-MNIST in a folder "
                "and give data.root=FOLDER"
            )
        images, labels = (read_idx(p) for p in paths if p is not None)
        for tensor, path, wanted in ((images, paths[0], "images, rows, columns"), (labels, paths[1], "labels")):
            if tensor.ndim != len(wanted.split()):
                shape = "x".join(map(str, tensor.shape))
                raise UserError(
                    f"data.root: {path} is of shape {shape}, not ({wanted}); is it another one of the files?"
                )
        if len(images) != len(labels):
            raise UserError(f"data.root: {len(images)} images but {len(labels)} labels in {folder}; fetch them again")
        pixels = images[:, None]
        kept = images.shape[1:] == (image_size, image_size)  # as bytes: what is made of them in a batch is the same
        found[part] = (pixels if kept else resize(floats(pixels), image_size), labels.long())
    data = split(*found["train"], (0.15, 0.0), num_classes=10)
    data.images["test"], data.labels["test"] = found["test"]
    return data

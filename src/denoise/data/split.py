"""How data become train, validation and test, in place, and images another size."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoise.data.images import SPLITS, Images
from denoise.errors import UserError
from denoise.randomness import stream


def split(images: Tensor, labels: Tensor, fractions: tuple[float, float], num_classes: int) -> Images:
    """Cut into train, validation and test by a permutation that never changes; fractions: validation, test.

    Nothing is copied: `images` are put in that order where they lie, and the splits are parts of them.
    """
    order = torch.randperm(len(images), generator=stream(0, "data/split"))
    held = [round(fraction * len(images)) for fraction in fractions]
    counts = [len(images) - sum(held), *held]
    reorder(images.numpy(), order.tolist())
    return Images(cut(images, counts), cut(labels[order], counts), num_classes)


def cut(rows: Tensor, counts: Sequence[int]) -> dict[str, Tensor]:
    """The splits of so many rows each, one after the other; what is left over is left out."""
    parts = rows.split([*counts, len(rows) - sum(counts)])
    return dict(zip(SPLITS, parts[: len(SPLITS)], strict=True))


def reorder(rows: NDArray[np.generic], order: Sequence[int]) -> None:
    """rows[i] <- rows[order[i]] for all i at once, along the cycles of the permutation: one row more is held."""
    done = bytearray(len(order))
    for start in range(len(order)):
        if done[start]:
            continue
        first, at = rows[start].copy(), start
        while (after := order[at]) != start:
            rows[at], done[at], at = rows[after], 1, after
        rows[at], done[at] = first, 1


def resize(images: Tensor, size: int) -> Tensor:
    """Bring (N, C, S, S) to another size by bilinear interpolation, antialiased. Errors: UserError for no squares."""
    height, width = images.shape[-2:]
    if height != width or not height:
        raise UserError(
            f"data: images of {height}x{width} pixels are no squares; pad them or cut them to squares first"
        )
    if size < 1:
        raise UserError(
            f"data.image_size={size}: must be 1 or more; leave it out for the data's own {images.shape[-1]}"
        )
    if size == height:
        return images
    return torch.nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)

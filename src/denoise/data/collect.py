"""Many images read by threads into one array: what cannot be read is named, what is equal stays in one split."""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from denoise.data.images import SPLITS, Images
from denoise.data.split import cut, reorder
from denoise.errors import UserError
from denoise.randomness import stream

Read = Callable[[int], tuple[NDArray[Any], Iterable[str]]]  # the i-th image, and what is to be said of it
Allocate = Callable[[tuple[int, ...], Any], NDArray[Any]]  # an array of this shape and type
HELD = 0.15  # of the images for validation, and as many for the test
NAMED = 5  # of those that cannot be read
TOGETHER = 1024  # images that wait for a thread


@dataclass(frozen=True)
class Listed:
    """What there is to read. splits: of each image, "" where it has none; classes: the names of the labels."""

    where: str
    names: Sequence[str]
    labels: Sequence[int]
    splits: Sequence[str]
    classes: Sequence[str] = ()
    conditions: dict[str, Tensor] = field(default_factory=dict)


def collect(
    listed: Listed, read: Read, shape: tuple[int, int, int], kind: Any, allocate: Allocate, most_unreadable: float
) -> Images:
    """Read all that is listed into one array of `kind` and divide it. Errors: UserError where too little is left."""
    count = len(listed.names)
    if not count:
        raise UserError(f"{listed.where}: no image there; legal: JPEG, PNG, WebP, BMP, TIFF, GIF, in any folders below")
    rows = allocate((count, *shape), kind)
    digests, left, said = _read_all(listed.names, read, rows)
    notes = _left_out(listed.where, left, count, most_unreadable)
    parts, equal, dropped = divide(digests, listed.splits, listed.where)
    order = [i for split in SPLITS for i in parts[split]]
    kept = set(order)
    reorder(rows, [*order, *(i for i in range(count) if i not in kept)])
    counts, chosen = [len(parts[split]) for split in SPLITS], torch.tensor(order)
    labels = torch.tensor(listed.labels, dtype=torch.int64)[chosen]
    classes = max(1, len(listed.classes))
    conditions = {name: cut(array[chosen], counts) for name, array in listed.conditions.items()}
    sizes = f"{shape[1]}x{shape[2]}, {shape[0]} channel{'s' * (shape[0] > 1)}"
    of = f" of {classes} classes" * (classes > 1)
    notes = [f"data: {len(order)} images{of} in {listed.where.partition('=')[2]}, {sizes}", *notes]
    notes[0] += "; " + ", ".join(f"{split} {size}" for split, size in zip(SPLITS, counts, strict=True))
    if said:
        notes.append("data: " + "; ".join(f"{number} {what}" for what, number in sorted(said.items())))
    if equal:
        notes.append(f"data: {equal} images equal another one; equal images are in one split")
    if dropped:
        notes.append(f"data: {dropped} images left out, as equal ones are held back for validation or test")
    single = [
        name
        for name, number in zip(listed.classes, np.bincount(labels, minlength=classes), strict=False)
        if number == 1
    ]
    if single and classes > 1:
        notes.append(f"data: one image only of {len(single)} classes, {', '.join(single[:NAMED])}: in one split only")
    images = cut(torch.from_numpy(rows), counts)
    return Images(images, cut(labels, counts), classes, conditions=conditions, notes=notes)


def _read_all(
    names: Sequence[str], read: Read, rows: NDArray[Any]
) -> tuple[list[bytes | None], list[tuple[str, str]], Counter[str]]:
    """Fill the rows; of each image what names its content, those that cannot be read with why, what is said of all."""
    said: Counter[str] = Counter()

    def one(i: int) -> bytes | str:
        try:
            rows[i], notes = read(i)
        except Exception as error:
            return type(error).__name__ if isinstance(error, MemoryError) else _why(error)
        said.update(notes)
        return hashlib.blake2b(rows[i].tobytes(), digest_size=16).digest()

    found: list[bytes | str] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(threads()) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # as Pillow's own limit is ours
        for first in range(0, len(names), TOGETHER):
            found += pool.map(one, range(first, min(first + TOGETHER, len(names))))
    left = [(names[i], why) for i, why in enumerate(found) if isinstance(why, str)]
    return [each if isinstance(each, bytes) else None for each in found], left, said


def threads() -> int:
    """How many threads decode: one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _why(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than {(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels"
    return f"{type(error).__name__}" if isinstance(error, UnidentifiedImageError) else str(error)[:80]


def _left_out(where: str, left: Sequence[tuple[str, str]], count: int, most: float) -> list[str]:
    if not left:
        return []
    names = "; ".join(f"{name} ({why})" for name, why in left[:NAMED]) + "; ..." * (len(left) > NAMED)
    if len(left) == count:
        raise UserError(f"{where}: none of {count} images can be read: {names}")
    if len(left) > most * count:
        raise UserError(
            f"{where}: {len(left)} of {count} images cannot be read: {names}; mend them, or leave them out with "
            f"data.most_unreadable={-(-1000 * len(left) // count) / 1000:g}"
        )
    return [f"data: {len(left)} of {count} left out, as they cannot be read: {names}"]


def divide(digests: Sequence[bytes | None], splits: Sequence[str], where: str) -> tuple[dict[str, list[int]], int, int]:
    """Which image is of which split, how many equal another, and how many are left out for that.

    A split that no image has is cut out of the training images, by a permutation that never changes. Images of one
    content are in one split: where they were given several, in the last of train, validation, test.
    Errors: UserError for too few.
    """
    parts: dict[str, list[int]] = {split: [] for split in SPLITS}
    for i, (digest, split) in enumerate(zip(digests, splits, strict=True)):
        if digest is not None:
            parts[split or "train"].append(i)
    readable, seen = sum(map(len, parts.values())), set[bytes | None]()
    for split in reversed(SPLITS):
        parts[split] = [i for i in parts[split] if digests[i] not in seen]
        seen |= {digests[i] for i in parts[split]}
    kept = sum(map(len, parts.values()))
    missing = [split for split in SPLITS[1:] if not parts[split]]
    groups = dict.fromkeys(digests[i] for i in parts["train"])
    if len(groups) <= len(missing):
        found = len(parts["train"])
        different = f", {len(groups)} different" * (len(groups) < found)
        raise UserError(
            f"{where}: {found} image{'s' * (found != 1)} to train on{different}; {len(missing) + 1} different ones or "
            f"more are needed{', as some are held back for ' * bool(missing)}{' and '.join(missing)}"
        )
    order = torch.randperm(len(groups), generator=stream(0, "data/split")).tolist()
    held = max(1, round(HELD * len(groups)))
    place = {digest: at for digest, at in zip(groups, order, strict=True)}
    every = parts["train"]
    for number, split in enumerate(missing):
        parts[split] = [i for i in every if number * held <= place[digests[i]] < (number + 1) * held]
    parts["train"] = [i for i in every if place[digests[i]] >= held * len(missing)]
    return parts, kept - len(seen), readable - kept

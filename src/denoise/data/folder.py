"""A folder of the user's own images: its folders are classes, or splits with classes below."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from denoise.data.cache import kept
from denoise.data.collect import Listed, collect
from denoise.data.images import Images
from denoise.data.pixels import pixels
from denoise.errors import UserError, choose
from denoise.paths import place

ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
NAMES = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}


def folder(
    root: str | None = None,
    image_size: int | Sequence[int] = 32,
    channels: int = 3,
    flip: bool = False,
    most_unreadable: float = 0.05,
    memory: float = 4.0,
) -> Images:
    """Read every image below `root`, cut to the middle and brought to `image_size`, a number or [height, width].

    Folders in `root` are classes; folders named train, validation (val, valid) and test are splits, with the classes
    below. A split that is not there is cut out of the training images, 15 %.
    Errors: UserError.
    """
    size = sides(image_size)
    check_channels(channels)
    home = existing(root, "the folder of your images")
    if not home.is_dir():
        raise UserError(f"data.root={root}: a file; give the folder that holds the images")
    found = sorted(_files(home))
    names = [name for name, _, _ in found]
    listed, notes = listing(f"data.root={root}", names)
    skipped = {name for name in names if name not in set(listed.names)}
    told = {"folder": str(home.resolve()), "size": size, "channels": channels, "most_unreadable": most_unreadable}
    told |= {"files": [each for each in found if each[0] not in skipped]}
    data = kept(
        told,
        memory,
        lambda allocate: collect(
            listed,
            lambda i: pixels(home / listed.names[i], size, channels),
            (channels, *size),
            np.uint8,
            allocate,
            most_unreadable,
        ),
    )
    return replace(data, flip=flip, notes=[*data.notes, *notes])


def sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width, of a number or of both. Errors: UserError."""
    both = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
    if len(both) != 2 or not all(isinstance(side, int) and side > 0 for side in both):
        raise UserError(f"data.image_size={image_size}: legal: a number such as 32, or [height,width]")
    return both[0], both[1]


def check_channels(channels: int) -> None:
    """Refuse what is neither grey nor coloured. Errors: UserError."""
    if channels not in (1, 3):
        raise UserError(f"data.channels={channels}: legal: 1 for grey images, 3 for coloured ones")


def existing(root: str | None, what: str) -> Path:
    """The file or folder that data.root names. Errors: UserError where it names none."""
    if root is None:
        raise UserError(f"data.root: not given; give {what} with data.root=PATH")
    home = place(root, f"data.root={root}")
    if not home.exists():
        near = choose(home.name, [path.name for path in home.parent.iterdir()]) if home.parent.is_dir() else ""
        hint = near.partition("? ")[0] + "?" if "? " in near else f"give {what}"
        raise UserError(f"data.root={root}: no such file or folder; {hint}")
    return home


def _files(home: Path) -> Iterator[tuple[str, int, int]]:
    """Every image file below a folder: its name from there, its size, when it was changed. Hidden ones are not met."""
    seen = set()
    for at, folders, files in os.walk(home, followlinks=True):
        here = os.stat(at)
        if (here.st_dev, here.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(at, name)
            if not name.startswith(".") and name.lower().endswith(ENDINGS) and path.is_file():
                found = path.stat()
                yield path.relative_to(home).as_posix(), found.st_size, found.st_mtime_ns


def listing(where: str, names: Sequence[str]) -> tuple[Listed, list[str]]:
    """Which class and which split each file is of, by its folders; and what is to be said of it."""
    tops = {name.partition("/")[0] for name in names if "/" in name}
    splits = {top for top in tops if top.lower() in NAMES}
    notes = []
    if not {"train"} & {NAMES[top.lower()] for top in splits} or (len(splits) == 1 and tops != splits):
        splits = set()
    if splits:
        outside = [name for name in names if name.partition("/")[0] not in splits]
        names = [name for name in names if name.partition("/")[0] in splits]
        if outside:
            notes.append(f"data: {len(outside)} images beside the folders {', '.join(sorted(splits))} are not used")
    below = [name.split("/")[1 if splits else 0 : -1] for name in names]
    folders = [parts[0] if parts else "" for parts in below]
    classes = sorted(set(folders))
    if len(classes) > 1 and not classes[0]:
        notes.append(f"data: {folders.count('')} images lie in no folder of their own: they are a class")
    label = {name: number for number, name in enumerate(classes)}
    of = [NAMES[name.partition("/")[0].lower()] if splits else "" for name in names]
    return Listed(where, names, [label[name] for name in folders], of, classes), notes

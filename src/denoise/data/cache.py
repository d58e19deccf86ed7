"""Decoded data in a file that every process maps: read once, held once."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoise.data.collect import Allocate
from denoise.data.images import SPLITS, Images, check
from denoise.data.split import cut

VERSION = 1  # of how data are decoded and kept: what another version has kept is made anew
IMAGES, ABOUT = "images.npy", "about.json"
kept_in: Path | None = None


def keep_in(store: Path) -> Path:
    """Keep decoded data in `store`/data from now on, in this process; before, they are in memory only."""
    global kept_in
    kept_in = store.expanduser() / "data"
    return store


def kept(named: Any, memory: float, make: Callable[[Allocate], Images]) -> Images:
    """What `make` makes, from its file in the store where it has been made before.

    `named` is plain data that tells it from others. Several processes that want the same wait for the one that makes
    it. More than `memory` GB of images are streamed. What cannot be written is kept in memory.
    """
    if kept_in is None:
        return make(np.empty)
    home = kept_in / hashlib.sha256(json.dumps([VERSION, named]).encode()).hexdigest()[:32]
    found = _read(home)
    if found is None:
        try:
            with _alone(home):
                found = _read(home) or _write(home, make)
        except OSError as error:
            found = make(np.empty)
            found.notes.append(f"data: not kept in {home.parent} ({error.strerror or error}): decoded at each start")
    size = sum(images.numel() * images.element_size() for images in found.images.values())
    return replace(found, streamed=size > memory * 1e9)


def _read(home: Path) -> Images | None:
    try:
        about = json.loads((home / ABOUT).read_text(encoding="utf-8"))
        counts = about.pop("counts")

        def mapped(file: str) -> dict[str, Tensor]:
            return cut(torch.from_numpy(np.load(home / file, mmap_mode="c")), counts)

        names = about.pop("conditions")
        conditions = {name: mapped(f"condition-{i}.npy") for i, name in enumerate(names)}
        return Images(mapped(IMAGES), mapped("labels.npy"), conditions=conditions, **about)
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not whole
        return None


def _write(home: Path, make: Callable[[Allocate], Images]) -> Images:
    made = [path for path in (home.parent, *home.parent.parents) if not path.exists()]
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".making-", dir=home.parent, ignore_cleanup_errors=True) as temporary:
            new = Path(temporary) / home.name
            new.mkdir()

            def allocate(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
                return np.lib.format.open_memmap(new / IMAGES, "w+", kind, shape)

            data = check(make(allocate))
            _describe(new, data)
            shutil.rmtree(home, ignore_errors=True)
            with suppress(OSError):  # another process was faster, where files cannot be locked
                os.replace(new, home)
    except BaseException:
        for path in made:  # nothing is left of data that are refused
            with suppress(OSError):
                path.rmdir()
        raise
    found = _read(home)
    if found is None:
        raise OSError(f"{home} cannot be read")
    return found


def _describe(new: Path, data: Images) -> None:
    """Write all but the images, which lie there."""
    every = {"labels.npy": data.labels} | {
        f"condition-{i}.npy": arrays for i, arrays in enumerate(data.conditions.values())
    }
    for file, arrays in every.items():
        np.save(new / file, torch.cat([arrays[split] for split in SPLITS]).numpy())
    about = {"counts": [len(data.images[split]) for split in SPLITS], "num_classes": data.num_classes}
    about |= {"kind": data.kind, "notes": data.notes, "conditions": list(data.conditions)}
    about |= {"sha256": data.content_hash(), "sigma_data": data.sigma()}
    (new / ABOUT).write_text(json.dumps(about), encoding="utf-8")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Within, no other process on this machine makes the same; a process that dies lets go."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = Path(tempfile.gettempdir()) / f"denoise-{os.getuid()}-{home.name}.lock"
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        with suppress(OSError):  # a folder that knows no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)

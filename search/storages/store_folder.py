"""The folder that everything local lies in: named by the config, and seen to be writable."""

import os
from pathlib import Path

from omegaconf import DictConfig

from denoise.errors import UserError
from denoise.paths import place

ROOM = 65536  # bytes that a database needs beside it, also to be read


def store_of(cfg: DictConfig) -> Path:
    """The folder of the store. Errors: UserError where its name is none."""
    return place(cfg.store, f"store={cfg.store}")


def check_store(store: Path) -> None:
    """Make the folder of the store, and refuse one that cannot be written, or whose disk is full."""
    probe = store / f".write-{os.getpid()}"
    try:
        store.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(ROOM))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"store={store}: cannot be written ({error.strerror}); give another folder with store=FOLDER"
        ) from error

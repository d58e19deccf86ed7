"""The state of a training on disk: written whole, and believed only where its bytes are those that were written."""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from denoise.fault import outside
from denoise.training.callbacks import Observer


class Save(Callback):
    """Write the whole state of a training, so that a kill at any moment costs little.

    One step after an evaluation, and `seconds` after the last time at the earliest: a short training is cheaper
    done again than saved. The file is written beside its place, flushed to the disk and then renamed: it is never
    half there. Errors: Outside where it cannot be written.
    """

    def __init__(self, path: Path, every: int, seconds: float, observer: Observer | None) -> None:
        self.path, self.every, self.seconds, self.observer = path, every, seconds, observer
        self.saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        due = time.monotonic() - self.saved_at >= self.seconds
        if due and (step - 1) % self.every == 0 and 1 < step < trainer.max_steps:
            if self.observer is not None:
                self.observer.on_save(step)
            with outside(f"saving the state of the training in {self.path}"):
                self.save(trainer)
            self.saved_at = time.monotonic()

    def save(self, trainer: Trainer) -> None:
        """Write, flush, note the digest, rename."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = unfinished(self.path)
        trainer.save_checkpoint(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        _noted(self.path).write_text(sha256(partial))
        os.replace(partial, self.path)


def whole(checkpoint: Path) -> bool:
    """Tell whether a state is there, byte for byte as it was written."""
    try:
        return _noted(checkpoint).read_text() == sha256(checkpoint)
    except OSError:
        return False


def forget(checkpoint: Path) -> None:
    """Remove a state, and what a kill left of one that was being written."""
    for path in (checkpoint, _noted(checkpoint), unfinished(checkpoint)):
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unfinished(checkpoint: Path) -> Path:
    """Where a state is written before it takes its name."""
    return checkpoint.with_name(f"{checkpoint.name}.part")


def _noted(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.sha256")

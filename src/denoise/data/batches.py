"""How a training batch is found by the number of its step."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from denoise.data.images import Images, floats
from denoise.errors import UserError
from denoise.randomness import stream


class Batches:
    """Training batches by optimizer step: each epoch is a permutation keyed by (seed, epoch), the last part left out.

    Where the data say so, half of the images of a batch are mirrored, keyed by (seed, step). The images of a data set
    that is streamed are read one step ahead, by another thread, from where they lie to `device`.
    Errors: UserError where a batch is larger than the data.
    """

    def __init__(self, data: Images, batch_size: int, seed: int, device: torch.device | None = None) -> None:
        count = len(data.images["train"])
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size}: must be 1 or more; legal: 1 to {count}")
        if batch_size > count:
            raise UserError(
                f"data.batch_size={batch_size}: larger than the {count} training images; take data.batch_size={count} "
                "or less"
            )
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.device = device or data.images["train"].device
        self.per_epoch = count // batch_size
        self.epoch = -1
        self.order = torch.empty(0)
        self.ahead: tuple[int, Future[Tensor]] | None = None

    def __deepcopy__(self, memo: object) -> "Batches":
        return Batches(self.data, self.batch_size, self.seed, self.device)  # all else follows from the step

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Look up the batch of an optimizer step: images (B, C, H, W) float32 and labels (B,)."""
        images = self._streamed(step) if self.data.streamed else self.data.images["train"][self.index(step)]
        if self.data.flip:
            flip = torch.rand(len(images), generator=stream(self.seed, "data/flip", step)) < 0.5
            images = torch.where(flip.to(images.device)[:, None, None, None], images.flip(-1), images)
        return floats(images), self._of(self.data.labels, step)

    def conditions(self, step: int, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Look up what else the data have for that batch, by name: (B, ...) each; `names`: these alone."""
        return {name: self._of(self.data.conditions[name], step) for name in names or self.data.conditions}

    def index(self, step: int) -> Tensor:
        """The places of a step's images among the training images: (B,), where the images lie."""
        epoch, place = divmod(step, self.per_epoch)
        images = self.data.images["train"]
        if epoch != self.epoch:
            order = torch.randperm(len(images), generator=stream(self.seed, "data/order", epoch))
            self.epoch, self.order = epoch, order.to(images.device)
        return self.order[place * self.batch_size : (place + 1) * self.batch_size]

    def _of(self, arrays: dict[str, Tensor], step: int) -> Tensor:
        return arrays["train"][self.index(step)].to(self.device)

    def _streamed(self, step: int) -> Tensor:
        read = self.ahead[1].result() if self.ahead is not None and self.ahead[0] == step else self._read(step)
        if self.ahead is None or self.ahead[0] != step + 1:
            images, index = self.data.images["train"], self.index(step + 1)
            self.ahead = step + 1, _reader().submit(_read, images, index, self.device)
        return read

    def _read(self, step: int) -> Tensor:
        return _read(self.data.images["train"], self.index(step), self.device)


@cache
def _reader() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="batches")


def _read(images: Tensor, index: Tensor, device: torch.device) -> Tensor:
    """Rows of a mapped file. By numpy: it reads them in one thread, torch would take those of the training."""
    rows = torch.from_numpy(np.take(images.numpy(), index.numpy(), axis=0))
    return (rows.pin_memory() if device.type == "cuda" else rows).to(device, non_blocking=True)

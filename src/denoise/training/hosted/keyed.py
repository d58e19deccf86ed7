"""A DataLoader read by number: which examples a batch has, and what is drawn for it, depends on a seed and the number.

What is read is the loader's: its dataset, its collate_fn, its batch size, its sampler. Its iterator is never used, so a
training that resumes reads on at its step, and all trials of a seed see the same batches in the same order.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from denoise.errors import UserError
from denoise.randomness import key, seeded_all, stream

EVALUATION = 0  # the seed of held-out batches: the same for all trials
LEAST = 8  # batches of an evaluation


class KeyedLoader:
    """The batches of a DataLoader by number.

    - name: whose batches they are, as messages and streams call it.
    - batch_size: of a batch; None: the loader's own.
    - held: examples that are left out of its order.

    Errors: UserError for what has no examples that can be read by number, or an order that no seed decides.
    """

    def __init__(
        self, loader: Any, name: str, batch_size: int | None = None, held: frozenset[int] = frozenset()
    ) -> None:
        _check(loader, name)
        self.name, self.dataset, self.collate = name, loader.dataset, loader.collate_fn
        self.sampler, self.batch_sampler = loader.sampler, loader.batch_sampler
        self.plain = type(self.batch_sampler) is BatchSampler
        if not self.plain and (batch_size or held):
            what = f"data.batch_size={batch_size}" if batch_size else "a part of them held back for validation"
            raise UserError(
                f"model.data: the {name} loader's {type(self.batch_sampler).__name__} decides its batches; {what} is "
                "not possible: give it a batch_size, and a validation loader beside it"
            )
        self.drop_last = self.plain and self.batch_sampler.drop_last
        self.held = held
        self._known: tuple[tuple[int, int], list[list[int]]] | None = None
        self.batch_size = batch_size or (self.batch_sampler.batch_size if self.plain else 0)
        first = self.order(0, 0)
        if not first:
            raise UserError(f"model.data: the {name} loader has no batch; give it more examples than drop_last leaves")
        self.batch_size = self.batch_size or max(map(len, first))
        self.count = len(first)  # batches of an epoch
        self._known = None
        if self.order(0, 0) != first:
            raise UserError(
                f"model.data: the {name} loader's {type(self.sampler).__name__} has another order each time, which "
                "no seed decides; let it draw from torch's global generator, numpy's or random's"
            )

    def __deepcopy__(self, memo: object) -> "KeyedLoader":
        return self  # data are read-only and large: copies of a module share them

    def order(self, seed: int, epoch: int) -> list[list[int]]:
        """The batches of an epoch, each as the numbers of its examples."""
        if self._known is None or self._known[0] != (seed, epoch):
            with seeded_all(seed, f"hosted/{self.name}/order", epoch):
                self._known = (seed, epoch), self._ordered(seed, epoch)
        return self._known[1]

    def _ordered(self, seed: int, epoch: int) -> list[list[int]]:
        for sampler in (self.sampler, self.batch_sampler):
            if isinstance(generator := getattr(sampler, "generator", None), torch.Generator):
                generator.manual_seed(key(seed, f"hosted/{self.name}/generator", epoch))
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        if not self.plain:
            return [list(batch) for batch in self.batch_sampler]
        examples = [int(index) for index in self.sampler if int(index) not in self.held]
        batches = [examples[at : at + self.batch_size] for at in range(0, len(examples), self.batch_size)]
        return batches[:-1] if self.drop_last and len(batches[-1]) < self.batch_size else batches

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and which of its batches it has."""
        return divmod(step, self.count)

    def at(self, seed: int, step: int) -> Any:
        """The batch of a training's step."""
        epoch, number = self.place(step)
        order = self.order(seed, epoch)
        return self.read(order[number % len(order)], seed, f"hosted/{self.name}/read", step)

    def fixed(self) -> list[list[int]]:
        """The batches for evaluations, the same for all seeds: of mixed examples, unless it makes them itself."""
        if not self.plain:
            return self.order(EVALUATION, 0)
        return self.even([index for index in mixed(len(self.dataset)) if index not in self.held])

    def even(self, examples: Sequence[int]) -> list[list[int]]:
        """Divide examples into batches of sizes that differ by one at most: as few as the batch size allows.

        LEAST where there are as many examples: of one batch no one knows what other examples would change.
        """
        count = max(-(-len(examples) // self.batch_size), min(len(examples), LEAST))
        return [list(examples[at::count]) for at in range(count)]

    def read(self, examples: Sequence[int], seed: int, stream_name: str, number: int) -> Any:
        """The examples of these numbers as a batch, what is drawn for them keyed."""
        with seeded_all(seed, stream_name, number):
            if hasattr(self.dataset, "__getitems__"):
                return self.collate(self.dataset.__getitems__(list(examples)))
            return self.collate([self.dataset[index] for index in examples])


def _check(loader: Any, name: str) -> None:
    where = f"model.data: the {name} loader"
    if not isinstance(loader, DataLoader):
        raise UserError(f"{where} is a {type(loader).__name__}; it must be one torch.utils.data.DataLoader")
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise UserError(
            f"{where} has a {type(dataset).__name__}, which cannot be read by number, so no seed and step decide a "
            "batch; give a dataset with __len__ and __getitem__"
        )
    if loader.batch_sampler is None:
        raise UserError(f"{where} has batch_size=None: its dataset makes the batches; give it a batch_size")


def mixed(count: int) -> list[int]:
    """0 to count - 1 in an order of no seed."""
    return torch.randperm(count, generator=stream(EVALUATION, "hosted/fixed")).tolist()


def digest(value: Any) -> str:
    """sha256 over the numbers of a batch, whatever holds them: mappings, lists, dataclasses."""
    found = hashlib.sha256()
    _digest(value, found)
    return found.hexdigest()


def _digest(value: Any, found: Any) -> None:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        found.update(f"{tuple(value.shape)}{value.dtype}".encode())
        found.update(value.flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    elif isinstance(value, np.ndarray):
        found.update(f"{value.shape}{value.dtype}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for name, each in value.items():
            found.update(f"{name}:".encode())
            _digest(each, found)
    elif is_dataclass(value) and not isinstance(value, type):
        _digest({field.name: getattr(value, field.name) for field in fields(value)}, found)
    elif isinstance(value, list | tuple):
        for each in value:
            _digest(each, found)
    elif isinstance(value, str | bytes | int | float | complex | type(None)):
        found.update(repr(value).encode())
    else:
        found.update(type(value).__name__.encode())

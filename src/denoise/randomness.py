"""Streams of random numbers keyed by (seed, name, step): drawn by name, never consumed in turn.

Because no draw moves another stream on, a resumed run continues bit for bit, two runs with one seed see
the same batches and the same noise, and a new component changes no one else's numbers.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


def key(seed: int, name: str, step: int = 0) -> int:
    """blake2b(seed / name / step) as a 63-bit integer: the same on every machine and in every process."""
    digest = hashlib.blake2b(f"{seed}/{name}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def stream(seed: int, name: str, step: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Open the stream (seed, name, step): a fresh generator on `device`."""
    return torch.Generator(device).manual_seed(key(seed, name, step))


@contextmanager
def seeded(seed: int, name: str, step: int = 0, device: torch.device | None = None) -> Iterator[None]:
    """Key torch's global CPU generator, a GPU's too, for code that takes no generator; their states are put back."""
    gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if gpu else []):
        torch.default_generator.manual_seed(key(seed, name, step))
        if gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(key(seed, name, step))
        yield


@contextmanager
def seeded_all(seed: int, name: str, step: int = 0, device: torch.device | None = None) -> Iterator[None]:
    """As `seeded`, with the global generators of random and of numpy too, for code that is the user's own."""
    plain, arrays = random.getstate(), np.random.get_state()
    random.seed(key(seed, f"{name}/random", step))
    np.random.seed(key(seed, f"{name}/numpy", step) % 2**32)
    try:
        with seeded(seed, name, step, device):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)


@dataclass
class Clock:
    """Where a training stands: the seed, the optimizer step, and the part of its batch that layers draw for."""

    seed: int = 0
    step: int = 0
    part: int = 0


class Stochastic(nn.Module):
    """A layer that draws in training, from the stream (seed, "layer/" + its name, step).

    Outside a training (no clock attached) it draws from torch's global generator.
    """

    clock: Clock | None = None
    stream_name: str = ""

    def generator(self, device: torch.device) -> torch.Generator | None:
        """Open this layer's stream for the clock's step."""
        if self.clock is None:
            return None
        return stream(self.clock.seed, of_part(self.stream_name, self.clock.part), self.clock.step, device)


def of_part(name: str, part: int) -> str:
    """The stream of a part of a batch; the first part's is that of a whole one."""
    return f"{name}/{part}" if part else name


def attach(model: nn.Module, clock: Clock) -> None:
    """Give every stochastic layer of `model` its stream, named by its place in the model."""
    for name, module in model.named_modules():
        if isinstance(module, Stochastic):
            module.clock = clock
            module.stream_name = f"layer/{name}"

"""The figures of sets of drawn images beside the same real ones, each with an interval over images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from denoise.metrics import FRECHET_DISTANCE, KERNEL_DISTANCE, PRECISION, QUALITY, RECALL
from denoise.quality.coverage import within
from denoise.quality.distance import (
    frechet_distance,
    kernel_distance,
    resampled_frechet_distance,
    resampled_kernel_distance,
)
from denoise.randomness import stream

LEVEL = 0.95
WIDE = 256  # more features than this make the Frechet distance of each resample too slow


@dataclass(frozen=True)
class Figure:
    """A figure and its interval over images; low and high: None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measured:
    """The figures of one set of drawn images: by name the value, and those of the resamples (B,), where they are."""

    values: dict[str, float]
    resamples: dict[str, Tensor]


def measure(drawn: Tensor, real: Tensor, resamples: int) -> Measured:
    """Measure features (N, D) of drawn images beside those of real ones (M, D).

    Resample b takes the same numbers of drawn images for every set of N: with the same noise behind each number, what
    two sets differ by is paired. Precision is resampled over the drawn images, recall over the real ones; the balls
    stay, since a point that is drawn twice is its own nearest neighbour.
    """
    precise, recalled = within(drawn, real).double(), within(real, drawn).double()
    values = {
        KERNEL_DISTANCE: kernel_distance(drawn, real),
        FRECHET_DISTANCE: frechet_distance(drawn, real),
        PRECISION: precise.mean().item(),
        RECALL: recalled.mean().item(),
    }
    if not resamples:
        return Measured(values, {})
    rows, others = _draws("drawn", resamples, len(drawn)), _draws("real", resamples, len(real))
    found = {KERNEL_DISTANCE: resampled_kernel_distance(drawn, real, rows, others)}
    if drawn.shape[1] <= WIDE:
        found[FRECHET_DISTANCE] = resampled_frechet_distance(drawn, real, rows, others)
    found |= {PRECISION: precise[rows].mean(1), RECALL: recalled[others].mean(1)}
    return Measured(values, found)


def _draws(name: str, resamples: int, count: int) -> Tensor:
    return torch.randint(count, (resamples, count), generator=stream(0, f"quality/{name}"))


def mean(sets: Sequence[Measured]) -> Measured:
    """The mean over several sets, such as one for each seed of a config: resample by resample."""
    values = {name: sum(each.values[name] for each in sets) / len(sets) for name in QUALITY}
    names = [name for name in QUALITY if all(name in each.resamples for each in sets)]
    return Measured(values, {name: torch.stack([each.resamples[name] for each in sets]).mean(0) for name in names})


def difference(one: Measured, other: Measured) -> Measured:
    """One set's figures less another's, resample by resample."""
    values = {name: one.values[name] - other.values[name] for name in QUALITY}
    both = [name for name in QUALITY if name in one.resamples and name in other.resamples]
    return Measured(values, {name: one.resamples[name] - other.resamples[name] for name in both})


def figures(of: Measured) -> dict[str, Figure]:
    """Each figure with its percentile interval.

    A Frechet distance of few images is too large, and that of a resample by as much again: its interval is moved to lie
    about its value. It says how it varies, not how far it is off.
    """
    found = {}
    for name, value in of.values.items():
        if name not in of.resamples:
            found[name] = Figure(value)
            continue
        made = of.resamples[name]
        tail = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=made.dtype)
        low, high = (made + (value - made.mean() if name == FRECHET_DISTANCE else 0)).quantile(tail).tolist()
        found[name] = Figure(value, low, high)
    return found

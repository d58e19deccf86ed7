"""The formula of every normalization, in float64."""

import math
from collections.abc import Callable

from torch import Tensor

Weights = dict[str, Tensor]


def moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    mean = x.mean(dim=dims, keepdim=True)
    return mean, ((x - mean) ** 2).mean(dim=dims, keepdim=True)


def affine(x: Tensor, w: Weights) -> Tensor:
    return x * w["weight"] + w["bias"]


def group_norm(x: Tensor, w: Weights, training: bool, num_groups: int, eps: float) -> Tensor:
    batch, places, channels = x.shape
    groups = math.gcd(num_groups, channels)
    cut = x.reshape(batch, places, groups, channels // groups)
    mean, var = moments(cut, (1, 3))
    return affine(((cut - mean) / (var + eps).sqrt()).reshape(x.shape), w)


def layer_norm(x: Tensor, w: Weights, training: bool, eps: float) -> Tensor:
    mean, var = moments(x, (2,))
    return affine((x - mean) / (var + eps).sqrt(), w)


def rms_norm(x: Tensor, w: Weights, training: bool, eps: float) -> Tensor:
    return x / ((x**2).mean(dim=2, keepdim=True) + eps).sqrt() * w["weight"]


def batch_norm(x: Tensor, w: Weights, training: bool, eps: float, momentum: float) -> Tensor:
    mean, var = moments(x, (0, 1)) if training else (w["running_mean"], w["running_var"])
    return affine((x - mean) / (var + eps).sqrt(), w)


# (x of shape (B, positions, C), the module's parameters and buffers by their last name, training, **parameters)
NORMALIZATION: dict[str, Callable[..., Tensor]] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "none": lambda x, w, training: x,
    "rms_norm": rms_norm,
}

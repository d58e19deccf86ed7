"""The formula of every normalization, in float64."""

import math
from collections.abc import Callable

import torch
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


def batch_norm(x: Tensor, w: Weights, training: bool, eps: float, momentum: float, track: bool) -> Tensor:
    mean, var = moments(x, (0, 1)) if training or not track else (w["running_mean"], w["running_var"])
    return affine((x - mean) / (var + eps).sqrt(), w)


def instance_norm(x: Tensor, w: Weights, training: bool, eps: float) -> Tensor:
    mean, var = moments(x, (1,))
    return affine((x - mean) / (var + eps).sqrt(), w)


def pixel_norm(x: Tensor, w: Weights, training: bool, eps: float) -> Tensor:
    return x / ((x**2).mean(dim=2, keepdim=True) + eps).sqrt()


def scale_norm(x: Tensor, w: Weights, training: bool, eps: float) -> Tensor:
    return w["g"] * x / (x**2).sum(dim=2, keepdim=True).sqrt().clamp(min=eps)


def dyt(x: Tensor, w: Weights, training: bool, alpha: float) -> Tensor:
    e = (2 * w["alpha"] * x).exp()
    return affine((e - 1) / (e + 1), w)


def frn(x: Tensor, w: Weights, training: bool, eps: float) -> Tensor:
    return affine(x / ((x**2).mean(dim=1, keepdim=True) + eps).sqrt(), w)


def evonorm_s0(x: Tensor, w: Weights, training: bool, num_groups: int, eps: float) -> Tensor:
    batch, places, channels = x.shape
    groups = math.gcd(num_groups, channels)
    _, var = moments(x.reshape(batch, places, groups, channels // groups), (1, 3))
    deviation = (var + eps).sqrt().expand(batch, 1, groups, channels // groups).reshape(batch, 1, channels)
    return affine(x / (1 + (-w["v"] * x).exp()) / deviation, w)


def local_response_norm(
    x: Tensor, w: Weights, training: bool, size: int, alpha: float, beta: float, k: float
) -> Tensor:
    channels = x.shape[2]
    sums = [(x[..., max(0, c - size // 2) : c + size // 2 + 1] ** 2).sum(dim=2) for c in range(channels)]
    return x / (k + alpha / size * torch.stack(sums, dim=2)) ** beta


# (x of shape (B, positions, C), the module's parameters and buffers by their last name, training, **parameters)
NORMALIZATION: dict[str, Callable[..., Tensor]] = {
    "batch_norm": batch_norm,
    "dyt": dyt,
    "evonorm_s0": evonorm_s0,
    "frn": frn,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "local_response_norm": local_response_norm,
    "none": lambda x, w, training: x,
    "pixel_norm": pixel_norm,
    "rms_norm": rms_norm,
    "scale_norm": scale_norm,
}

"""The formula of every weight_normalization, in float64."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def weight_norm(w: Weights) -> Tensor:
    g, v = w["original0"], w["original1"]
    length = (v.flatten(1) ** 2).sum(dim=1).sqrt()
    return g * v / length.reshape(g.shape)


def spectral_norm(w: Weights, n_power_iterations: int, eps: float) -> Tensor:
    return w["original"] / torch.linalg.svdvals(w["original"].flatten(1))[0]


def weight_standardization(w: Weights, eps: float, scaled: bool) -> Tensor:
    rows = w["original"].flatten(1)
    centred = rows - rows.mean(dim=1, keepdim=True)
    standard = centred / ((centred**2).mean(dim=1, keepdim=True) + eps).sqrt()
    return (standard / math.sqrt(rows.shape[1]) if scaled else standard).reshape(w["original"].shape)


def magnitude_preserving(w: Weights, eps: float, forced: bool) -> Tensor:
    rows = w["original"].flatten(1)
    return (rows / ((rows**2).sum(dim=1, keepdim=True).sqrt() + eps)).reshape(w["original"].shape)


# (the module's parameters by their last name, without the bias, **parameters) -> the weight that it uses
WEIGHT_NORMALIZATION: dict[str, Callable[..., Tensor]] = {
    "magnitude_preserving": magnitude_preserving,
    "none": lambda w: w["weight"],
    "spectral_norm": spectral_norm,
    "weight_norm": weight_norm,
    "weight_standardization": weight_standardization,
}

"""The formula of every activation, in float64."""

from collections.abc import Callable

import numpy as np
import scipy.special
import torch
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def tanh(x: Tensor) -> Tensor:
    return 1 - 2 / (1 + (2 * x).exp())


def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    return ((-(beta * x).abs()).exp().log1p() + (beta * x).clamp(min=0)) / beta


def normal_cdf(x: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(scipy.special.ndtr(x.numpy())))


def leaky(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def elu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * (x.exp() - 1))


ACTIVATION: dict[str, Callable[..., Tensor]] = {
    "elu": elu,
    "gelu": lambda x: x * normal_cdf(x),
    "leaky_relu": lambda x, negative_slope: leaky(x, negative_slope),
    "mish": lambda x: x * tanh(softplus(x)),
    "prelu": lambda x, init: leaky(x, init),
    "relu": lambda x: (x + x.abs()) / 2,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "softplus": softplus,
    "swish": lambda x, beta: x * sigmoid(beta * x),
    "tanh": tanh,
}

"""The formula of every activation, in float64.

x is (B, *): the first dimension counts samples, which matters where a sample's mean is part of the formula. Of a
stochastic one it is the mean over its draws, which is also what it gives in evaluation.
"""

import math
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


def erf(x: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(scipy.special.erf(x.numpy())))


def relu(x: Tensor) -> Tensor:
    return (x + x.abs()) / 2


def between(x: Tensor, low: float, high: float) -> Tensor:
    return torch.where(x < low, low, torch.where(x > high, high, x))


def leaky(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def elu(x: Tensor, alpha: float, rate: float = 1.0) -> Tensor:
    return torch.where(x > 0, x, alpha * ((x / rate).exp() - 1))


def sech(x: Tensor) -> Tensor:
    return 2 * (-x.abs()).exp() / (1 + (-2 * x.abs()).exp())


def pdelu(x: Tensor, alpha: float, t: float) -> Tensor:
    deformed = (1 + (1 - t) * x.clamp(max=0)).clamp(min=0) ** (1 / (1 - t))
    return torch.where(x > 0, x, alpha * (deformed - 1))


def pelu(x: Tensor, a: float, b: float) -> Tensor:
    return torch.where(x > 0, a / b * x, a * ((x / b).exp() - 1))


def srs(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Numerator and denominator times e^(x / beta) below zero, where e^(-x / beta) has no bounds."""
    up = (x.clamp(max=0) / beta).exp()
    return x * up / (x * up / alpha + (-x.clamp(min=0) / beta).exp())


def smelu(x: Tensor, beta: float) -> Tensor:
    return torch.where(x.abs() < beta, (x + beta) ** 2 / (4 * beta), relu(x))


def apl(x: Tensor, hinges: int, a: float) -> Tensor:
    places = [0.0] if hinges == 1 else [2 * s / (hinges - 1) - 1 for s in range(hinges)]
    return relu(x) + sum(a * relu(b - x) for b in places)


def pau(x: Tensor) -> Tensor:
    """leaky_relu's least-squares fit; its odd part is 0.505 x, exactly."""
    even = 1 + 3.969339219 * x**2 + 0.300073909 * x**4
    return 0.505 * x + (0.033582614 + 1.651314734 * x**2 + 0.927935624 * x**4) / even


def gelu_tanh(x: Tensor, approximate: str) -> Tensor:
    assert approximate == "tanh"
    return x / 2 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def cauchy_cdf(x: Tensor) -> Tensor:
    return torch.where(x < 0, -(1 / x).atan() / math.pi, x.atan() / math.pi + 0.5)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

ACTIVATION: dict[str, Callable[..., Tensor]] = {
    "abrelu": lambda x: relu(x - x.flatten(1).mean(1).view(-1, *(1,) * (x.ndim - 1))),
    "apl": apl,
    "brelu": lambda x, bound: between(x, 0, bound),
    "celu": lambda x, alpha: elu(x, alpha, alpha),
    "elliott": lambda x: x / (1 + x.abs()) / 2 + 0.5,
    "elu": elu,
    "gelu": lambda x: x * normal_cdf(x),
    "gelu_cauchy": lambda x: x * cauchy_cdf(x),
    "gelu_sigma": lambda x, sigma: x * normal_cdf(x / sigma),
    "gelu_stochastic": lambda x: x * normal_cdf(x),
    "gelu_tanh": gelu_tanh,
    "hard_sigmoid": lambda x: between(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: between(x, -1, 1),
    "hardswish": lambda x: x * between(x + 3, 0, 6) / 6,
    "identity": lambda x: x,
    "leaky_relu": lambda x, negative_slope: leaky(x, negative_slope),
    "lisht": lambda x: x * tanh(x),
    "logish": lambda x: x * (1 + sigmoid(x)).log(),
    "mish": lambda x: x * tanh(softplus(x)),
    "parametric_sigmoid": lambda x, m: sigmoid(x) ** m,
    "pau": pau,
    "pdelu": pdelu,
    "pelu": pelu,
    "prelu": lambda x, per_channel, init: leaky(x, init),
    "relu": relu,
    "relu6": lambda x: between(x, 0, 6),
    "resech": lambda x: x * sech(x),
    "rrelu": lambda x, lower, upper: leaky(x, (lower + upper) / 2),
    "scaled_tanh": lambda x, a, b: a * tanh(b * x),
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "serf": lambda x: x * erf(softplus(x)),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "smelu": smelu,
    "snake": lambda x, a: x + (1 - (2 * a * x).cos()) / (2 * a),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + x.abs()),
    "squared_relu": lambda x: x * relu(x),
    "srs": srs,
    "star_relu": lambda x, s, b: s * x * relu(x) + b,
    "swish": lambda x, beta: x * sigmoid(beta * x),
    "tanh": tanh,
    "tanh_exp": lambda x: x * tanh(x.exp()),
}

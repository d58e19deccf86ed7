"""The formula of every activation: in float64 of a tensor, in any number of digits of one mpmath number.

x is (B, *): the first dimension counts samples, which matters where a sample's mean is part of the formula. Of a
stochastic one it is the mean over its draws, which is also what it gives in evaluation.
"""

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import scipy.special
import torch
from torch import Tensor

Number = Tensor | mp.mpf


def exp(x: Number) -> Number:
    return x.exp() if isinstance(x, Tensor) else mp.exp(x)


def log1p(x: Number) -> Number:
    return x.log1p() if isinstance(x, Tensor) else mp.log1p(x)


def cos(x: Number) -> Number:
    return x.cos() if isinstance(x, Tensor) else mp.cos(x)


def atan(x: Number) -> Number:
    return x.atan() if isinstance(x, Tensor) else mp.atan(x)


def where(condition: Tensor | bool, yes: Number | float, no: Number | float) -> Number:
    if isinstance(condition, Tensor):
        return torch.where(condition, yes, no)
    return yes if condition else no


def sigmoid(x: Number) -> Number:
    return 1 / (1 + exp(-x))


def tanh(x: Number) -> Number:
    """1 from 1000 on, so that e^x may be no number."""
    return 1 - 2 / (1 + exp(2 * where(x > 1000, 1000.0, x)))


def softplus(x: Number, beta: float = 1.0) -> Number:
    return (log1p(exp(-abs(beta * x))) + relu(beta * x)) / beta


def normal_cdf(x: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(scipy.special.ndtr(x.numpy())))


def erf(x: Number) -> Number:
    return torch.from_numpy(np.asarray(scipy.special.erf(x.numpy()))) if isinstance(x, Tensor) else mp.erf(x)


def relu(x: Number) -> Number:
    return (x + abs(x)) / 2


def between(x: Number, low: float, high: float) -> Number:
    return where(x < low, low, where(x > high, high, x))


def leaky(x: Number, slope: float) -> Number:
    return where(x > 0, x, slope * x)


def elu(x: Number, alpha: float, rate: float = 1.0) -> Number:
    return where(x > 0, x, alpha * (exp(x / rate) - 1))


def sech(x: Number) -> Number:
    return 2 * exp(-abs(x)) / (1 + exp(-2 * abs(x)))


def pdelu(x: Number, alpha: float, t: float) -> Number:
    deformed = relu(1 - (1 - t) * relu(-x)) ** (1 / (1 - t))
    return where(x > 0, x, alpha * (deformed - 1))


def pelu(x: Number, a: float, b: float) -> Number:
    return where(x > 0, a / b * x, a * (exp(x / b) - 1))


def srs(x: Number, alpha: float, beta: float) -> Number:
    """Numerator and denominator times e^(x / beta) below zero, where e^(-x / beta) has no bounds."""
    up = exp(-relu(-x) / beta)
    return x * up / (x * up / alpha + exp(-relu(x) / beta))


def smelu(x: Number, beta: float) -> Number:
    return where(abs(x) < beta, (x + beta) ** 2 / (4 * beta), relu(x))


def apl(x: Number, hinges: int, a: float) -> Number:
    places = [0.0] if hinges == 1 else [2 * s / (hinges - 1) - 1 for s in range(hinges)]
    return relu(x) + sum(a * relu(b - x) for b in places)


def pau(x: Number) -> Number:
    """leaky_relu's least-squares fit; its odd part is 0.505 x, exactly."""
    even = 1 + 3.969339219 * x**2 + 0.300073909 * x**4
    return 0.505 * x + (0.033582614 + 1.651314734 * x**2 + 0.927935624 * x**4) / even


def gelu_tanh(x: Tensor, approximate: str) -> Tensor:
    assert approximate == "tanh"
    return x / 2 * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def cauchy_cdf(x: Number) -> Number:
    pi = math.pi if isinstance(x, Tensor) else mp.pi
    return where(x < 0, -atan(1 / x) / pi, atan(x) / pi + 0.5)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

ACTIVATION: dict[str, Callable[..., Number]] = {
    "abrelu": lambda x: relu(x - x.flatten(1).mean(1).view(-1, *(1,) * (x.ndim - 1))),
    "apl": apl,
    "brelu": lambda x, bound: between(x, 0, bound),
    "celu": lambda x, alpha: elu(x, alpha, alpha),
    "elliott": lambda x: x / (1 + abs(x)) / 2 + 0.5,
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
    "logish": lambda x: x * log1p(sigmoid(x)),
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
    "snake": lambda x, a: x + (1 - cos(2 * a * x)) / (2 * a),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "squared_relu": lambda x: x * relu(x),
    "srs": srs,
    "star_relu": lambda x, s, b: s * x * relu(x) + b,
    "swish": lambda x, beta: x * sigmoid(beta * x),
    "tanh": tanh,
    "tanh_exp": lambda x: x * tanh(exp(x)),
}

"""The formula of every initializer, in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import scipy.integrate
import torch

from formulas.activation import ACTIVATION


@dataclass(frozen=True)
class Law:
    """The distribution of one entry of a weight; `bound` is the largest absolute value that it can have."""

    variance: float
    bound: float
    mean: float = 0.0


def uniform(variance: float) -> Law:
    return Law(variance, math.sqrt(3 * variance))


def normal(variance: float) -> Law:
    return Law(variance, math.inf)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def gain_of(gain: float | str, activation: str) -> float:
    """The gain that a word means: E[gain^2 f(z)^2] = 1, z ~ N(0, 1), by quadrature; torch's is 5/3 for tanh."""
    if gain == "auto":
        f = ACTIVATION[activation]

        def integrand(z: float) -> float:
            value = f(torch.tensor([z], dtype=torch.float64)).item()
            return value**2 * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

        return scipy.integrate.quad(integrand, -12, 12, points=[0.0], limit=200)[0] ** -0.5
    if gain == "torch":
        return {"tanh": 5 / 3, "relu": math.sqrt(2), "sigmoid": 1.0}[activation]
    return float(gain)


def xavier(law: Callable[[float], Law]) -> Callable[..., Law]:
    return lambda shape, gain: law(gain**2 * 2 / sum(fans(shape)))


def kaiming(law: Callable[[float], Law]) -> Callable[..., Law]:
    return lambda shape, gain: law(gain**2 / fans(shape)[0])


# (shape, **parameters, with `gain` already a number) -> Law
INITIALIZER: dict[str, Callable[..., Law]] = {
    "kaiming_normal": kaiming(normal),
    "kaiming_uniform": kaiming(uniform),
    "normal": lambda shape, std: normal(std**2),
    "orthogonal": lambda shape, gain: Law(gain**2 / max(shape[0], fans(shape)[0]), math.inf),
    "torch_default": lambda shape: uniform(1 / (3 * fans(shape)[0])),
    "xavier_normal": xavier(normal),
    "xavier_uniform": xavier(uniform),
    "zeros": lambda shape: Law(0.0, 0.0),
}

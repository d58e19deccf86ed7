"""The formula of every initializer, in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import scipy.integrate
import torch

from tests.formulas.activation import ACTIVATION


@dataclass(frozen=True)
class Law:
    """The distribution of one entry of a weight.

    bound: the largest absolute value that it can have; kurtosis: E[w^4] / variance^2, 3 for a normal law.
    """

    variance: float
    bound: float
    mean: float = 0.0
    kurtosis: float = 3.0


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


def trunc_normal(shape: tuple[int, ...], std: float) -> Law:
    """N(0, std^2) given |w| < 2 std: variance std^2 (1 - 4 phi(2) / (Phi(2) - Phi(-2)))."""
    phi, inside = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
    return Law(std**2 * (1 - 4 * phi / inside), 2 * std)


def orthogonal(shape: tuple[int, ...], gain: float) -> Law:
    return Law(gain**2 / max(shape[0], fans(shape)[0]), math.inf)


def delta_orthogonal(shape: tuple[int, ...], gain: float) -> Law:
    """One tap in each filter is an orthogonal matrix's entry, the others are zero."""
    taps = math.prod(shape[2:])
    return Law(gain**2 / max(shape[:2]) / taps, math.inf, kurtosis=3.0 * taps)


def sparse(shape: tuple[int, ...], sparsity: float, std: float) -> Law:
    share = max(1, round((1 - sparsity) * fans(shape)[0])) / fans(shape)[0]
    return Law(share * std**2, math.inf, kurtosis=3.0 / share)


# (shape, **parameters, with `gain` already a number) -> Law
INITIALIZER: dict[str, Callable[..., Law]] = {
    "constant": lambda shape, value: Law(0.0, abs(value), value),
    "delta_orthogonal": delta_orthogonal,
    "huge_normal": lambda shape, std: normal(std**2),
    "kaiming_normal": kaiming(normal),
    "kaiming_uniform": kaiming(uniform),
    "lecun_normal": lambda shape: normal(1 / fans(shape)[0]),
    "lecun_uniform": lambda shape: uniform(1 / fans(shape)[0]),
    "lsuv": lambda shape: orthogonal(shape, 1.0),  # before its second stage
    "normal": lambda shape, std: normal(std**2),
    "orthogonal": orthogonal,
    "pretrained": lambda shape, path, run, otherwise: INITIALIZER[otherwise](shape),  # what is not in the file
    "sparse": sparse,
    "tiny_normal": lambda shape, std: normal(std**2),
    "torch_default": lambda shape: uniform(1 / (3 * fans(shape)[0])),
    "trunc_normal": trunc_normal,
    "uniform": lambda shape, bound: uniform(bound**2 / 3),
    "xavier_normal": xavier(normal),
    "xavier_uniform": xavier(uniform),
    "zeros": lambda shape: Law(0.0, 0.0),
}

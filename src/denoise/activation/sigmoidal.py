"""Bounded activations: sigmoids, and a bump."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.activation.elementwise import Elementwise, sides


class ScaledTanh(nn.Module):
    """a tanh(b x), with a = 1.7159 and b = 2/3 near f(1) = 1. LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp."""

    def __init__(self, a: float = 1.7159, b: float = 2 / 3) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x * self.b) * self.a


class ParametricSigmoid(Elementwise):
    """(1 / (1 + e^-x))^m: PSF. Chandra & Singh 2004, Neurocomputing 61. It is e^(-m softplus(-x))."""

    def __init__(self, m: float = 2.0) -> None:
        super().__init__()
        self.m = m

    def _value(self, x: Tensor) -> Tensor:
        return torch.exp(F.softplus(-x, threshold=40) * -self.m)


class ReSech(Elementwise):
    """x sech(x) = 2 x u / (1 + u^2), u = e^-|x|. Njikam & Zhao 2016, Applied Intelligence 45."""

    def _value(self, x: Tensor) -> Tensor:
        u = (-x.abs()).exp()
        return 2 * x * u / (u.square() + 1)


class Elliott(Elementwise):
    """0.5 x / (1 + |x|) + 0.5. Elliott 1993, a better activation function for artificial neural networks.

    Below 0 that is 0.5 / (1 - x), which keeps its digits where it is small.
    """

    def _value(self, x: Tensor) -> Tensor:
        above, below = sides(x)
        return ((below + 1).reciprocal() + (1 - (above + 1).reciprocal())) * 0.5

"""Bounded activations: sigmoids, and a bump."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.activation.elementwise import Elementwise


class ScaledTanh(nn.Module):
    """a tanh(b x), with a = 1.7159 and b = 2/3 near f(1) = 1. LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp."""

    def __init__(self, a: float = 1.7159, b: float = 2 / 3) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x * self.b) * self.a


class ParametricSigmoid(Elementwise):
    """(1 / (1 + e^-x))^m: PSF. Chandra & Singh 2004, Neurocomputing 61. In float32 x below -80 counts as -80."""

    def __init__(self, m: float = 2.0) -> None:
        super().__init__()
        self.m = m

    def _value(self, x: Tensor) -> Tensor:
        return x.clamp(min=-80 if x.dtype == torch.float32 else -700).sigmoid_().pow(self.m)

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        y = torch.sigmoid(x).pow_(self.m).mul_(self.m)
        return (x.neg().sigmoid_().mul_(y).mul_(g),)  # m s(x)^m s(-x)


class ReSech(Elementwise):
    """x sech(x) = 2 x u / (1 + u^2), u = e^-|x|. Njikam & Zhao 2016, Applied Intelligence 45."""

    def _value(self, x: Tensor) -> Tensor:
        u = x.abs().neg_().exp_()
        return (u * x).div(u.square().add_(1)).mul_(2)

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        size = x.abs()
        u = size.neg().exp_()
        square = u.square()
        both = square + 1
        steep = size.mul_(square.neg_().add_(1)).div_(both)  # x tanh(x)
        return (steep.neg_().add_(1).mul_(u).div_(both).mul_(g).mul_(2),)


class Elliott(Elementwise):
    """0.5 x / (1 + |x|) + 0.5. Elliott 1993, a better activation function for artificial neural networks.

    Below 0 that is 0.5 / (1 - x), which keeps its digits where it is small.
    """

    def _value(self, x: Tensor) -> Tensor:
        above = F.relu(x)
        below = x.clamp(max=0).neg_().add_(1).reciprocal_()
        return above.div(above + 1).add_(below).mul_(0.5)

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        return (x.abs().add_(1).square_().reciprocal_().mul_(g).mul_(0.5),)

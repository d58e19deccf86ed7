"""Activations whose shape is learned."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from denoise.activation.elementwise import Elementwise, positive, softplus

# Least squares against leaky_relu(0.01) at 601 points from -3 to 3 (scipy.optimize.least_squares, tolerances 1e-15;
# three starts agree; the odd part is that of leaky_relu, 0.505 x). The largest error there is 0.0336, at 0. A test fits
# again.
PAU_NUMERATOR = (0.033582614, 0.505, 1.651314734, 0.505 * 3.969339219, 0.927935624, 0.505 * 0.300073909)
PAU_DENOMINATOR = (0.0, 3.969339219, 0.0, 0.300073909)


class Snake(Elementwise):
    """x + sin^2(a x) / a, a learned, one per layer, above 0 (by softplus). Ziyin et al. 2020, arXiv:2006.08195."""

    def __init__(self, a: float = 1.0) -> None:
        super().__init__()
        self.raw_a = positive(a, "a")

    def _value(self, x: Tensor) -> Tensor:
        a = softplus(self.raw_a)
        return torch.addcdiv(x, (x * a).sin().square(), a)


class APL(Elementwise):
    """max(0, x) + sum_s a_s max(0, b_s - x), the slopes a_s and the hinges b_s learned, a pair of sets per channel.

    Agostinelli et al. 2014, arXiv:1412.6830, who draw the start. Here every a_s starts at `a`, the b_s evenly from -1
    to 1 (one hinge: at 0), so that a start needs no chance and every number has a gradient.
    """

    def __init__(self, num_channels: int = 1, hinges: int = 2, a: float = -0.1) -> None:
        super().__init__()
        places = torch.linspace(-1, 1, hinges) if hinges > 1 else torch.zeros(1)
        self.hinges = hinges
        self.a = nn.Parameter(torch.full((hinges * num_channels,), float(a)))  # a vector: no weight decay
        self.b = nn.Parameter(places.repeat_interleave(num_channels))

    def _value(self, x: Tensor) -> Tensor:
        shape = (self.hinges, -1, *(1,) * (x.ndim - 2 if x.ndim == 4 else 0))
        y = torch.relu(x)
        for a, b in zip(self.a.view(shape), self.b.view(shape), strict=True):
            y = torch.addcmul(y, torch.relu(b - x), a)
        return y


class PAU(Elementwise):
    """P(x) / (1 + |Q(x)|), P = sum a_j x^j, j = 0 to 5, Q = sum b_k x^k, k = 1 to 4; all learned, a set per layer.

    The safe Pade unit, Molina, Schramowski & Kersting 2019, arXiv:1907.06732. It starts near leaky_relu. Far out
    powers overflow: beyond a bound the unit goes on straight, with the slope a_5 / |b_4| that it tends to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(PAU_NUMERATOR))
        self.b = nn.Parameter(torch.tensor(PAU_DENOMINATOR))

    def _value(self, x: Tensor) -> Tensor:
        return pade(x, self.a.unbind(), self.b.unbind())


def pade(x: Tensor, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """P(x) / (1 + |Q(x)|) of the coefficients `a` of P and `b` of Q, straight beyond the bound."""
    near, beyond, steep = bounded(x, b[3])
    return torch.addcmul(horner(a, near) / ((horner(b, near) * near).abs() + 1), beyond, a[5] * steep)


def bounded(x: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x within the bound, what is beyond it, and the slope there over a_5: 1 / (|b_4| + bound^-4)."""
    bound = 1e7 if x.dtype == torch.float32 else 1e60
    near = x.clamp(-bound, bound)
    return near, x - near, (b.abs() + bound**-4).reciprocal()


def horner(coefficients: Sequence[Tensor], x: Tensor) -> Tensor:
    """sum_j c_j x^j."""
    *rest, value = coefficients
    for c in reversed(rest):
        value = torch.addcmul(c, value, x)
    return value

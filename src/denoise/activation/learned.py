"""Activations whose shape is learned."""

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

    def _learned(self, x: Tensor) -> tuple[Tensor]:
        return (softplus(self.raw_a),)

    def _value(self, x: Tensor, a: Tensor) -> Tensor:
        return torch.addcdiv(x, (x * a).sin().square(), a)

    def _gradient(self, g: Tensor, x: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        z = x * a
        s = z.sin()
        twice = z.cos_().mul_(s).mul_(2)  # sin(2 a x)
        terms = s.square_().div_(-a).addcmul_(twice, x).mul_(g).div_(a)
        return twice.add_(1).mul_(g), terms


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

    def _learned(self, x: Tensor) -> tuple[Tensor, ...]:
        shape = (self.hinges, -1, *(1,) * (x.ndim - 2 if x.ndim == 4 else 0))
        return *self.a.view(shape).unbind(), *self.b.view(shape).unbind()

    def _value(self, x: Tensor, *learned: Tensor) -> Tensor:
        y = torch.relu(x)
        for a, b in zip(learned[: self.hinges], learned[self.hinges :], strict=True):
            y = torch.addcmul(y, torch.relu(b - x), a)
        return y

    def _gradient(self, g: Tensor, x: Tensor, *learned: Tensor) -> tuple[Tensor, ...]:
        slopes, hinges = learned[: self.hinges], learned[self.hinges :]
        dx, da, db = g * (x > 0), [], []
        for a, b in zip(slopes, hinges, strict=True):
            below = b - x
            moved = g * (below > 0)
            da.append(below.mul_(moved).sum_to_size(a.shape))
            db.append(moved.mul_(a).sum_to_size(b.shape))
            dx.sub_(moved)
        return dx, *da, *db


class PAU(Elementwise):
    """P(x) / (1 + |Q(x)|), P = sum a_j x^j, j = 0 to 5, Q = sum b_k x^k, k = 1 to 4; all learned, a set per layer.

    The safe Pade unit, Molina, Schramowski & Kersting 2019, arXiv:1907.06732. It starts near leaky_relu. Far out
    powers overflow: beyond a bound the unit goes on straight, with the slope a_5 / |b_4| that it tends to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(PAU_NUMERATOR))
        self.b = nn.Parameter(torch.tensor(PAU_DENOMINATOR))

    def _learned(self, x: Tensor) -> tuple[Tensor, ...]:
        return *self.a.unbind(), *self.b.unbind()

    def _value(self, x: Tensor, *learned: Tensor) -> Tensor:
        a, b = learned[:6], learned[6:]
        x, beyond, steep = self._bounded(x, b[3])
        return torch.addcmul(_horner(a, x) / (_horner(b, x) * x).abs().add_(1), beyond, a[5] * steep)

    @staticmethod
    def _bounded(x: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x within the bound, what is beyond it, and the slope there over a_5: 1 / (|b_4| + bound^-4)."""
        bound = 1e7 if x.dtype == torch.float32 else 1e60
        near = x.clamp(-bound, bound)
        return near, x - near, (b.abs() + bound**-4).reciprocal()

    def _gradient(self, g: Tensor, x: Tensor, *learned: Tensor) -> tuple[Tensor, ...]:
        """With D = 1 + |Q|, y = P / D: dy/da_j = x^j / D, dy/db_k = -y sign(Q) x^k / D, dy/dx from both."""
        a, b = learned[:6], learned[6:]
        x, beyond, steep = self._bounded(x, b[3])
        q = _horner(b, x).mul_(x)
        up = g / q.abs().add_(1)
        down = _horner(a, x).mul_(up).div_(q.abs().add_(1)).mul_(q.sign_()).neg_()
        dx = _horner([j * a[j] for j in range(1, 6)], x).mul_(up)
        dx.addcmul_(_horner([(k + 1) * b[k] for k in range(4)], x), down)
        da, db, far = _moments(up, x, 0, 6), _moments(down, x, 1, 5), beyond.mul_(g).sum() * steep
        da[5] = da[5] + far
        db[3] = db[3] - far * a[5] * steep * b[3].sign()
        return dx, *da, *db


def _horner(coefficients: tuple[Tensor, ...] | list[Tensor], x: Tensor) -> Tensor:
    """sum_j c_j x^j."""
    *rest, value = coefficients
    for c in reversed(rest):
        value = torch.addcmul(c, value, x)
    return value


def _moments(weight: Tensor, x: Tensor, low: int, high: int) -> list[Tensor]:
    """sum(weight x^j) for j = low to high - 1."""
    found, term = [], weight * x if low else weight
    for _ in range(low, high):
        found.append(term.sum())
        term = term * x
    return found

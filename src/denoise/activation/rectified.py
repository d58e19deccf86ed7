"""The identity above zero, or close to it; something else below."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.activation.elementwise import Elementwise, positive, softplus
from denoise.errors import UserError
from denoise.precision import wide
from denoise.randomness import Stochastic


class PReLU(nn.PReLU):
    """max(0, x) + a min(0, x), a learned, one per layer or `per_channel`. He et al. 2015, arXiv:1502.01852."""

    def __init__(self, num_channels: int = 1, per_channel: bool = False, init: float = 0.25) -> None:
        super().__init__(num_channels if per_channel else 1, init)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if x.ndim == 3 and len(weight) > 1:  # torch takes dimension 1 for the channels
            return F.prelu(x.transpose(1, 2), weight).transpose(1, 2)
        return F.prelu(x, weight)


class RReLU(Stochastic):
    """max(0, x) + a min(0, x): in training a ~ U(lower, upper) for each number, in evaluation their mean.

    Xu et al. 2015, arXiv:1505.00853. torch's own draws from the global generator, this one from the layer's stream.
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3) -> None:
        super().__init__()
        if lower > upper:
            raise UserError(f"activation.lower={lower:g}: above activation.upper={upper:g}; take a smaller one")
        self.lower, self.upper = lower, upper

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.leaky_relu(x, (self.lower + self.upper) / 2)
        slope = torch.empty_like(x).uniform_(self.lower, self.upper, generator=self.generator(x.device))
        return x * slope.masked_fill_(x >= 0, 1)

    def mean_square(self, x: Tensor) -> Tensor:
        """x^2 above zero, x^2 E[a^2] below: what the square is in training, in the mean over draws."""
        square = (self.lower**2 + self.lower * self.upper + self.upper**2) / 3
        return x.square() * torch.where(x >= 0, 1.0, square)


class BReLU(nn.Hardtanh):
    """min(max(0, x), bound): no output can explode. Liew, Khalil-Hani & Bakhteri 2016, Neurocomputing 216."""

    def __init__(self, bound: float = 1.0) -> None:
        super().__init__(0.0, bound)


class ABReLU(nn.Module):
    """max(0, x - mean x), the mean over everything but the batch. Dubey & Chakraborty 2018, arXiv:1804.02051."""

    def forward(self, x: Tensor) -> Tensor:
        exact = wide(x)
        total = exact.sum(dim=tuple(range(1, x.ndim)), keepdim=True)
        mean = total / max(1, total.numel() and x.numel() // total.numel())  # mean()'s gradient has another format
        return F.relu(exact - mean).to(x.dtype)


class SquaredReLU(nn.Module):
    """max(0, x)^2. So et al. 2021 (Primer), arXiv:2109.08668."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class StarReLU(Elementwise):
    """s max(0, x)^2 + b, s and b learned, one of each per layer. Yu et al. 2022, arXiv:2210.13452.

    The start, s = 2/5^(1/2) and b = -1/5^(1/2), gives mean 0 and variance 1 for x ~ N(0, 1).
    """

    def __init__(self, s: float = 0.8944, b: float = -0.4472) -> None:
        super().__init__()
        self.s, self.b = nn.Parameter(torch.tensor(float(s))), nn.Parameter(torch.tensor(float(b)))

    def _value(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.b, F.relu(x).square(), self.s)


class SMeLU(Elementwise):
    """0 below -beta, x above beta, (x + beta)^2 / (4 beta) between. Shamir, Lin & Coviello 2020, arXiv:2010.09931."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def _value(self, x: Tensor) -> Tensor:
        bowl = F.hardtanh(x, -self.beta, self.beta) + self.beta
        return bowl.square() / (4 * self.beta) + F.relu(x - self.beta)


class PELU(Elementwise):
    """a elu(x / b): (a / b) x above 0, a (e^(x/b) - 1) below; a and b learned, one of each per layer.

    Trottier, Giguere & Chaib-draa 2016, arXiv:1605.09332, who keep both at 0.1 or more; here they are softplus of what
    is learned, and so above 0.
    """

    def __init__(self, a: float = 1.0, b: float = 1.0) -> None:
        super().__init__()
        self.raw_a, self.raw_b = positive(a, "a"), positive(b, "b")

    def _value(self, x: Tensor) -> Tensor:
        return softplus(self.raw_a) * F.elu(x / softplus(self.raw_b))


class PDELU(Elementwise):
    """x above 0, alpha ([1 + (1 - t) x]_+^(1 / (1 - t)) - 1) below; alpha learned, one per layer, t fixed.

    Cheng et al. 2020, Neural Networks 125. The deformed exponential is elu's as t tends to 1. It is computed from the
    logarithm of its base, so that it keeps its digits near 0.
    """

    def __init__(self, alpha: float = 1.0, t: float = 0.9) -> None:
        super().__init__()
        if not 0 < t < 1:
            raise UserError(f"activation.t={t:g}: must be between 0 and 1, both left out; near 1 it is activation=elu")
        self.t = t
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def _value(self, x: Tensor) -> Tensor:
        kind, rate = torch.finfo(x.dtype), 1 - self.t
        below = F.hardtanh(x, (2 * kind.eps - 1) / rate, kind.tiny)  # from where the logarithm has a slope to 0
        return torch.addcmul(F.threshold(x, kind.tiny, 0.0), F.elu((below * rate).log1p() / rate), self.alpha)

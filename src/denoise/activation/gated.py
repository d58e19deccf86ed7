"""The input times a gate: x q(x), q from 0 to 1."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.activation.elementwise import Elementwise, positive, sides, softplus
from denoise.errors import UserError
from denoise.precision import wide
from denoise.randomness import Stochastic


class Swish(Elementwise):
    """x sigmoid(beta x), beta learned, one per layer. Ramachandran, Zoph & Le 2017, arXiv:1710.05941."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class GELUSigma(Elementwise):
    """x Phi(x / sigma), Phi the standard normal CDF: gelu at 1, relu as sigma tends to 0.

    Hendrycks & Gimpel 2016, arXiv:1606.08415. Computed as sigma gelu(x / sigma).
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        if not sigma >= 1e-6:
            raise UserError(f"activation.sigma={sigma:g}: must be 1e-6 or more; the limit at 0 is activation=relu")
        self.sigma = sigma

    def _value(self, x: Tensor) -> Tensor:
        return F.gelu(x / self.sigma) * self.sigma


class GELUCauchy(Elementwise):
    """x (1/2 + arctan(x) / pi): gelu with the standard Cauchy's CDF in the place of the normal's.

    After Hendrycks & Gimpel 2016, arXiv:1606.08415. Below 0 the CDF is arctan(1 / -x) / pi, which keeps its digits.
    """

    def _value(self, x: Tensor) -> Tensor:
        above, below = sides(x)
        angle = torch.atan(above) + torch.atan((below + 1e-18).reciprocal())  # 1 / 0 would have no gradient
        return angle / math.pi * x


class GELUStochastic(Stochastic):
    """In training x m, m ~ Bernoulli(Phi(x)) from the layer's keyed stream; in evaluation its mean, x Phi(x).

    Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2. The gradient is that of the drawn branch, m.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.gelu(x)
        with torch.no_grad():
            exact = wide(x)
            kept = torch.empty_like(exact).uniform_(generator=self.generator(x.device)) < torch.special.ndtr(exact)
        return torch.where(kept, x, 0.0)

    def mean_square(self, x: Tensor) -> Tensor:
        """x^2 Phi(x): what the square is in training, in the mean over draws."""
        return x.square() * torch.special.ndtr(x)


class LiSHT(Elementwise):
    """x tanh(x). Roy et al. 2019, arXiv:1901.05894."""

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.tanh(x)


class TanhExp(Elementwise):
    """x tanh(e^x). Liu & Di 2020, arXiv:2003.09855. Beyond e^20 the gate is 1."""

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.tanh(F.hardtanh(x, -math.inf, 20.0).exp())


class Serf(Elementwise):
    """x erf(softplus(x)). Nag & Bhattacharyya 2021, arXiv:2108.09598."""

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.erf(F.softplus(x))


class Logish(Elementwise):
    """x log(1 + sigmoid(x)). Zhu et al. 2021, Neurocomputing 458."""

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.log1p(torch.sigmoid(x))


class SRS(Elementwise):
    """x / (x / alpha + e^(-x / beta)), alpha and beta learned, one of each per layer: the soft root sign.

    Zhou, Li & Wang 2020, arXiv:2003.03873. Both are held above 0 (by softplus), and beta below 2 alpha: at e alpha the
    denominator reaches 0. Below 0 numerator and denominator are times e^(x / beta), so that nothing overflows.
    """

    def __init__(self, alpha: float = 5.0, beta: float = 3.0) -> None:
        super().__init__()
        if not beta < 2 * alpha:
            raise UserError(f"activation.beta={beta:g}: must be below 2 alpha, {2 * alpha:g}; take a smaller one")
        self.raw_alpha, self.raw_beta = positive(alpha, "alpha"), positive(beta, "beta")

    def _value(self, x: Tensor) -> Tensor:
        alpha = softplus(self.raw_alpha)
        z = x / torch.minimum(softplus(self.raw_beta), 2 * alpha)
        above = F.relu(z)
        y = x * (z - above).exp()
        return y / torch.addcdiv((-above).exp(), y, alpha)

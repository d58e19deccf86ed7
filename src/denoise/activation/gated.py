"""The input times a gate: x q(x), q from 0 to 1."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.activation.elementwise import Elementwise, positive, softplus
from denoise.errors import UserError
from denoise.randomness import Stochastic


class Swish(Elementwise):
    """x sigmoid(beta x), beta learned, one per layer. Ramachandran, Zoph & Le 2017, arXiv:1710.05941."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def _value(self, x: Tensor, beta: Tensor) -> Tensor:
        return x * torch.sigmoid(beta * x)

    def _gradient(self, g: Tensor, x: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        s = (x * beta).sigmoid_()
        bend = torch.ops.aten.sigmoid_backward(g, s).mul_(x)  # g x s (1 - s)
        return torch.addcmul(bend * beta, g, s), bend.mul_(x)


class Mish(Elementwise):
    """x tanh(softplus(x)). Misra 2020, arXiv:1908.08681.

    tanh(ln(1 + e)) = n / (n + 2) with e = e^x and n = e (e + 2): on a CPU in half to two thirds of the time of torch's
    own, which takes several transcendental functions for each number. From x = 20 on the quotient is 1 in float32.
    """

    only_on_cpu = True

    def _value(self, x: Tensor) -> Tensor:
        return F.mish(x)

    def _value_and_kept(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        e = self._bounded(x).exp_()
        n = (e + 2).mul_(e)
        return n.div_(n + 2).mul_(x), ()

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        bounded = self._bounded(x)
        e = bounded.exp()  # the derivative: (n + 4 x e (1 + e) / (n + 2)) / (n + 2)
        bend = (e + 1).mul_(e)
        n = e.add_(bend)
        below = n + 2
        return (n.add_(bend.mul_(bounded).div_(below), alpha=4).div_(below).mul_(g),)

    @staticmethod
    def _bounded(x: Tensor) -> Tensor:
        return x.clamp(max=20 if x.dtype == torch.float32 else 40)


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

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        return (torch.ops.aten.gelu_backward(g, x / self.sigma),)


class GELUCauchy(Elementwise):
    """x (1/2 + arctan(x) / pi): gelu with the standard Cauchy's CDF in the place of the normal's.

    After Hendrycks & Gimpel 2016, arXiv:1606.08415. The CDF is the angle of (-x, 1) over pi, which keeps its digits
    where it is small.
    """

    def _value(self, x: Tensor) -> Tensor:
        return torch.atan2(x.new_ones(()), -x) / math.pi * x

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        angle = torch.atan2(x.new_ones(()), -x)
        return (x.square().add_(1).reciprocal_().mul_(x).add_(angle).mul_(g).div_(math.pi),)


class GELUStochastic(Stochastic):
    """In training x m, m ~ Bernoulli(Phi(x)) from the layer's keyed stream; in evaluation its mean, x Phi(x).

    Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2. The gradient is that of the drawn branch, m.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.gelu(x)
        with torch.no_grad():
            wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
            kept = torch.empty_like(wide).uniform_(generator=self.generator(x.device)) < torch.special.ndtr(wide)
        return torch.where(kept, x, 0.0)

    def mean_square(self, x: Tensor) -> Tensor:
        """x^2 Phi(x): what the square is in training, in the mean over draws."""
        return x.square() * torch.special.ndtr(x)


class LiSHT(Elementwise):
    """x tanh(x). Roy et al. 2019, arXiv:1901.05894."""

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.tanh(x)

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        t = x.tanh()
        return (torch.ops.aten.tanh_backward(x, t).add_(t).mul_(g),)  # x (1 - t^2) + t


class TanhExp(Elementwise):
    """x tanh(e^x). Liu & Di 2020, arXiv:2003.09855. Beyond e^20 the gate is 1."""

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.tanh(x.clamp(max=20).exp())

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        e = x.clamp(max=20).exp_()
        t = e.tanh()
        return (torch.ops.aten.tanh_backward(e, t).mul_(x).add_(t).mul_(g),)  # x e (1 - t^2) + t


class Serf(Elementwise):
    """x erf(softplus(x)). Nag & Bhattacharyya 2021, arXiv:2108.09598."""

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.erf(F.softplus(x))

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        p = F.softplus(x)
        bell = p.square().neg_().exp_().mul_(torch.sigmoid(x)).mul_(x)
        return (p.erf_().add_(bell, alpha=2 / math.sqrt(math.pi)).mul_(g),)


class Logish(Elementwise):
    """x log(1 + sigmoid(x)). Zhu et al. 2021, Neurocomputing 458."""

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.log1p(torch.sigmoid(x))

    def _gradient(self, g: Tensor, x: Tensor) -> tuple[Tensor]:
        s = torch.sigmoid(x)
        return (torch.ops.aten.sigmoid_backward(x, s).div_(s + 1).add_(s.log1p_()).mul_(g),)


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

    def _learned(self, x: Tensor) -> tuple[Tensor, Tensor]:
        alpha = softplus(self.raw_alpha)
        return alpha, torch.minimum(softplus(self.raw_beta), 2 * alpha)

    def _value(self, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        up, down = self._powers(x, beta)
        return x * up / (x * up / alpha + down)

    @staticmethod
    def _powers(x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """e^(x / beta) below 0 and e^(-x / beta) above; 1 on the other side."""
        return (x.clamp(max=0) / beta).exp(), (F.relu(x) / -beta).exp()

    def _gradient(self, g: Tensor, x: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        """f = x up / d with d = x up / alpha + down; f' = up down (1 + x / beta) / d^2, f^2 / alpha^2 and
        -f x down / d / beta^2."""
        up, down = self._powers(x, beta)
        y = x * up
        d = (y / alpha).add_(down)
        up.div_(d)
        down.div_(d)
        gy = y.div_(d) * g
        dx = (x / beta).add_(1).mul_(up).mul_(down).mul_(g)
        return dx, y.mul_(gy).div_(alpha.square()), gy.mul_(down).mul_(x).div_(-beta.square())

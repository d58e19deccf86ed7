"""EDM's preconditioning, noise levels and weight. Karras et al. 2022, arXiv:2206.00364."""

import torch
from torch import Tensor, nn

from denoise.denoiser.preconditioned import Denoiser


class LogNormal:
    """ln sigma ~ N(P_mean, P_std^2), and EDM's weight, with which every noise level starts at a loss of about 1.

    As a ruler it is what val/loss and test/loss are measured by,
    whatever a denoiser is trained to predict: losses of other targets and weights do not compare.
    """

    def __init__(self, sigma_data: float, P_mean: float = -1.2, P_std: float = 1.2) -> None:
        self.sigma_data = sigma_data
        self.P_mean = P_mean
        self.P_std = P_std

    def sigma(self, u: Tensor) -> Tensor:
        """exp(P_mean + P_std Phi^-1(u)): quantiles u in (0, 1) -> noise levels of the log-normal distribution."""
        return (self.P_mean + self.P_std * torch.special.ndtri(u)).exp()

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """(s^2 + sd^2) / (s sd)^2: (B,) -> (B,)."""
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()


class EDM(LogNormal, Denoiser):
    """c_skip = sd^2 / (s^2 + sd^2), c_out = s sd / sqrt(s^2 + sd^2), c_in = 1 / sqrt(s^2 + sd^2).

    s = sigma, sd = sigma_data; the paper's table 1.
    """

    def __init__(self, backbone: nn.Module, sigma_data: float, P_mean: float = -1.2, P_std: float = 1.2) -> None:
        Denoiser.__init__(self, backbone)
        LogNormal.__init__(self, sigma_data, P_mean, P_std)

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = sigma.square() + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data * total.rsqrt(), total.rsqrt()

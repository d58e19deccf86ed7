"""A denoiser: a backbone with EDM's preconditioning, the only place that knows sigma.

Karras et al. 2022, arXiv:2206.00364.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Denoiser(nn.Module):
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise): noisy images and their sigma -> clean images.

    c_skip = sd^2 / (s^2 + sd^2), c_out = s sd / sqrt(s^2 + sd^2), c_in = 1 / sqrt(s^2 + sd^2), c_noise = ln(s) / 4
    with s = sigma, sd = sigma_data (EDM, table 1). x: (B, C, H, W) in units of the data, sigma: (B,).
    """

    def __init__(self, backbone: nn.Module, sigma_data: float, P_mean: float, P_std: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.sigma_data = sigma_data
        self.P_mean = P_mean
        self.P_std = P_std

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        total = sigma.square() + self.sigma_data**2
        c_skip = self.sigma_data**2 / total
        c_out = sigma * self.sigma_data * total.rsqrt()
        c_in = total.rsqrt()
        c_noise = sigma.log() / 4
        F = self.backbone(c_in[:, None, None, None] * x, c_noise, labels)
        return c_skip[:, None, None, None] * x + c_out[:, None, None, None] * F.to(x.dtype)

    def loss(self, images: Tensor, sigma: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """loss_weight |D(x + sigma n; sigma) - x|^2, a mean over each image: (B,). EDM, equation 2.

        loss_weight = (s^2 + sd^2) / (s sd)^2, with which every noise level starts at a loss of about 1.
        """
        denoised = self(images + sigma[:, None, None, None] * noise, sigma, labels)
        return self.loss_weight(sigma) * (denoised - images).square().flatten(1).mean(dim=1)

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """(s^2 + sd^2) / (s sd)^2: (B,) -> (B,)."""
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()

    def curvature(
        self,
        parameters: Sequence[Tensor],
        images: Tensor,
        sigma: Tensor,
        noise: Tensor,
        labels: Tensor | None,
        probe: Tensor,
    ) -> list[Tensor]:
        """2 / N (d sum_i sqrt(loss_weight) probe_i D_i / dw)^2: the Gauss-Newton diagonal of the mean loss, unbiased.

        N is the number of entries of D, `probe` is standard normal of its shape. It is the Gauss-Newton-Bartlett
        estimate of Liu et al. 2023, arXiv:2305.14342, the loss read as a Gaussian likelihood: one backward pass.
        """
        denoised = self(images + sigma[:, None, None, None] * noise, sigma, labels)
        total = (self.loss_weight(sigma).sqrt()[:, None, None, None] * probe * denoised).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
        return [gradient.square() * (2 / denoised.numel()) for gradient in gradients]

    def sigma(self, u: Tensor) -> Tensor:
        """exp(P_mean + P_std Phi^-1(u)): quantiles u in (0, 1) -> noise levels of the log-normal distribution."""
        return (self.P_mean + self.P_std * torch.special.ndtri(u)).exp()

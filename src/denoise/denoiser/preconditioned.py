"""A denoiser: a backbone with its preconditioning. What it is trained to predict is four functions of sigma."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Denoiser(nn.Module):
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise): noisy images and their sigma -> clean images.

    x = image + sigma noise: (B, C, H, W) in units of the data, sigma: (B,). c_noise = ln(sigma) / 4, whatever F is
    trained to predict. Karras et al. 2022, arXiv:2206.00364, equation 7. `sigma_min` and `sigma_max` are the noise
    levels between which images are drawn. labels (B,) and conditions, name -> (B, ...), are handed to F.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_skip, c_out and c_in: (B,) each."""
        raise NotImplementedError

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """The weight of |D - image|^2 in the training loss: (B,)."""
        raise NotImplementedError

    def sigma(self, u: Tensor) -> Tensor:
        """Quantiles u in (0, 1) -> the noise levels that are trained on."""
        raise NotImplementedError

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions that F takes."""
        return tuple(getattr(self.backbone, "conditions", ()))

    def forward(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, conditions: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        c_skip, c_out, c_in = self.coefficients(sigma)
        c_noise = sigma.log() / 4
        told = (labels, conditions) if self.conditions else (labels,)
        F = self.backbone(c_in[:, None, None, None] * x, c_noise, *told)
        return c_skip[:, None, None, None] * x + c_out[:, None, None, None] * F.to(x.dtype)

    def error(
        self,
        images: Tensor,
        sigma: Tensor,
        noise: Tensor,
        labels: Tensor | None = None,
        conditions: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """|D(x + sigma n; sigma) - x|^2, a mean over each image: (B,)."""
        denoised = self(images + sigma[:, None, None, None] * noise, sigma, labels, conditions)
        return (denoised - images).square().flatten(1).mean(dim=1)

    def loss(
        self,
        images: Tensor,
        sigma: Tensor,
        noise: Tensor,
        labels: Tensor | None = None,
        conditions: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """loss_weight |D(x + sigma n; sigma) - x|^2, a mean over each image: (B,)."""
        return self.loss_weight(sigma) * self.error(images, sigma, noise, labels, conditions)

    def curvature(
        self,
        parameters: Sequence[Tensor],
        images: Tensor,
        sigma: Tensor,
        noise: Tensor,
        labels: Tensor | None,
        probe: Tensor,
        conditions: Mapping[str, Tensor] | None = None,
    ) -> list[Tensor]:
        """2 / N (d sum_i sqrt(loss_weight) probe_i D_i / dw)^2: the Gauss-Newton diagonal of the mean loss, unbiased.

        N is the number of entries of D, `probe` is standard normal of its shape. It is the Gauss-Newton-Bartlett
        estimate of Liu et al. 2023, arXiv:2305.14342, the loss read as a Gaussian likelihood: one backward pass.
        """
        denoised = self(images + sigma[:, None, None, None] * noise, sigma, labels, conditions)
        total = (self.loss_weight(sigma).sqrt()[:, None, None, None] * probe * denoised).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
        return [gradient.square() * (2 / denoised.numel()) for gradient in gradients]

"""ODE solvers that draw images: plain functions over a denoiser D(x, sigma, labels), whatever its network predicts.

Euler's and Heun's steps as in Karras et al. 2022, arXiv:2206.00364, algorithm 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from denoise.model.embedding import NO_CLASS

Denoise = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def sigma_steps(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """(smax^(1/rho) + i/(n-1) (smin^(1/rho) - smax^(1/rho)))^rho, then 0: (steps + 1,). EDM, equation 5."""
    ramp = torch.linspace(0, 1, steps)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1)])


@torch.no_grad()
def euler(denoise: Denoise, noise: Tensor, sigmas: Tensor, labels: Tensor | None = None) -> Tensor:
    """x <- x + (s' - s) (x - D(x; s)) / s, first order. noise: (B, C, H, W) of unit variance -> images."""
    x = noise * sigmas[0]
    for sigma, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        slope = (x - denoise(x, x.new_full((len(x),), sigma), labels)) / sigma
        x = x + (after - sigma) * slope
    return x


@torch.no_grad()
def heun(denoise: Denoise, noise: Tensor, sigmas: Tensor, labels: Tensor | None = None) -> Tensor:
    """Euler's step, then the mean of the slopes at both ends, second order. noise: (B, C, H, W) -> images."""
    x = noise * sigmas[0]
    for sigma, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        slope = (x - denoise(x, x.new_full((len(x),), sigma), labels)) / sigma
        ahead = x + (after - sigma) * slope
        if after > 0:
            slope_ahead = (ahead - denoise(ahead, x.new_full((len(x),), after), labels)) / after
            ahead = x + (after - sigma) * (slope + slope_ahead) / 2
        x = ahead
    return x


@torch.no_grad()
def dpmpp_2m(denoise: Denoise, noise: Tensor, sigmas: Tensor, labels: Tensor | None = None) -> Tensor:
    """x <- (s' / s) x - (e^-h - 1) ((1 + h / 2h0) D - h / 2h0 D0), h = ln(s / s'), second order.

    h0 and D0 are those of the step before; the first step and the last, to s' = 0, are of first order. noise:
    (B, C, H, W) -> images. Lu et al. 2022, arXiv:2211.01095, algorithm 2, on the noise levels themselves.
    """
    x, before, h_before = noise * sigmas[0], None, torch.zeros(())
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        denoised = denoise(x, x.new_full((len(x),), sigma.item()), labels)
        h = (sigma / after).log()
        if before is None or after == 0:
            slope = denoised
        else:
            ahead = (h / h_before / 2).item()
            slope = (1 + ahead) * denoised - ahead * before
        x = (after / sigma).item() * x - torch.expm1(-h).item() * slope
        before, h_before = denoised, h
    return x


def guided(denoise: Denoise, scale: float) -> Denoise:
    """D0 + scale (D - D0), D0 without the class. Ho & Salimans 2022, arXiv:2207.12598, in their later form."""

    def both(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        without = denoise(x, sigma, torch.full_like(labels, NO_CLASS))
        return without + scale * (denoise(x, sigma, labels) - without)

    return both

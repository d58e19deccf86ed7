"""Networks that predict the noise, v or the clean image on a chain of betas.

With x = image + sigma noise, F sees c_in x, which is the noisy image as the papers scale it, and by default the weight
is such that loss_weight |D - image|^2 = |F - target|^2.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from denoise.denoiser.preconditioned import Denoiser
from denoise.errors import UserError, choose

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
MOST_SIGMA = 1e5  # of a ladder that ends in noise alone, where sigma has no end


def ladder(
    beta_schedule: str = "linear",
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    timesteps: int = 1000,
    betas: Sequence[float] | None = None,
    zero_snr: bool = False,
) -> Tensor:
    """sqrt((1 - abar_t) / abar_t), abar_t = prod (1 - beta): the noise levels of betas, (timesteps,) in float64.

    linear: Ho et al. 2020, arXiv:2006.11239; scaled_linear: the betas' roots are linear (Rombach et al. 2022,
    arXiv:2112.10752); squaredcos_cap_v2: Nichol & Dhariwal 2021, arXiv:2102.09672, equation 17. `zero_snr` moves and
    scales sqrt(abar) so that the last step is noise alone: Lin et al. 2024, arXiv:2305.08891, algorithm 1.

    Errors: UserError for a schedule that is not known, and for betas outside (0, 1).
    """
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    if betas is not None:
        beta = torch.tensor(betas, dtype=torch.float64)
    elif beta_schedule == "linear":
        beta = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)
    elif beta_schedule == "scaled_linear":
        beta = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float64).square()
    elif beta_schedule == "squaredcos_cap_v2":
        curve = ((t + 0.008) / 1.008 * math.pi / 2).cos().square()
        beta = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    else:
        raise UserError(f"denoiser.beta_schedule={beta_schedule}: unknown; {choose(beta_schedule, SCHEDULES)}")
    if not (0 < beta.min() and beta.max() < 1):
        raise UserError(f"denoiser: betas from {beta.min():g} to {beta.max():g}; legal: between 0 and 1")
    root = (1 - beta).cumprod(0).sqrt()
    if zero_snr:
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return (root.square().reciprocal() - 1).sqrt().clamp(max=MOST_SIGMA)


class _OnLadder(Denoiser):
    """A denoiser that is trained on a ladder of noise levels, each as often: c_in = 1 / sqrt(1 + s^2).

    `min_snr`: the weight of |D - image|^2 is min(1 / s^2, min_snr), whatever F predicts: Hang et al. 2023,
    arXiv:2303.09556; None: that of |F - target|^2.
    """

    def __init__(
        self,
        backbone: nn.Module,
        beta_schedule: str = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        timesteps: int = 1000,
        min_snr: float | None = None,
        betas: Sequence[float] | None = None,
        zero_snr: bool = False,
    ) -> None:
        super().__init__(backbone)
        found = ladder(beta_schedule, beta_start, beta_end, timesteps, betas, zero_snr)
        self.register_buffer("levels", found.float(), persistent=False)
        self.sigma_min, self.sigma_max = found[0].item(), found[-1].item()
        self.min_snr = min_snr

    def sigma(self, u: Tensor) -> Tensor:
        levels: Any = self.levels
        step = (u * len(levels)).long().clamp(0, len(levels) - 1)
        return levels.to(u.device)[step].to(u.dtype)

    def c_in(self, sigma: Tensor) -> Tensor:
        return (1 + sigma.square()).rsqrt()

    def loss_weight(self, sigma: Tensor) -> Tensor:
        if self.min_snr is None:
            return self.coefficients(sigma)[1].square().reciprocal()  # with it the loss is |F - target|^2
        return sigma.square().reciprocal().clamp(max=self.min_snr)


class Epsilon(_OnLadder):
    """F predicts the noise: c_skip = 1, c_out = -s. Ho et al. 2020, arXiv:2006.11239."""

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ones_like(sigma), -sigma, self.c_in(sigma)


class V(_OnLadder):
    """F predicts (noise - s image) / sqrt(1 + s^2): c_skip = 1 / (1 + s^2), c_out = -s / sqrt(1 + s^2).

    Salimans & Ho 2022, arXiv:2202.00512.
    """

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c_in = self.c_in(sigma)
        return c_in.square(), -sigma * c_in, c_in


class X0(_OnLadder):
    """F predicts the clean image: c_skip = 0, c_out = 1. Ho et al. 2020, arXiv:2006.11239, section 3.2."""

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.zeros_like(sigma), torch.ones_like(sigma), self.c_in(sigma)

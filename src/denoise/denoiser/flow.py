"""Networks that predict the velocity of a flow from images to noise."""

import torch
from torch import Tensor, nn

from denoise.denoiser.preconditioned import Denoiser


class Flow(Denoiser):
    """F predicts noise - image on the straight path (1 - t) image + t noise, s = t / (1 - t).

    c_skip = 1 / (1 + s), c_out = -s / (1 + s), c_in = 1 / (1 + s). Liu et al. 2023, arXiv:2209.03003. logit t is
    normal (Esser et al. 2024, arXiv:2403.03206), so ln s ~ N(mean, std^2); their shift a of the noise levels is
    mean + ln a.
    """

    def __init__(self, backbone: nn.Module, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__(backbone)
        self.mean, self.std = mean, std

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rest = (1 + sigma).reciprocal()
        return rest, -sigma * rest, rest

    def loss_weight(self, sigma: Tensor) -> Tensor:
        return ((1 + sigma) / sigma).square()

    def sigma(self, u: Tensor) -> Tensor:
        return (self.mean + self.std * torch.special.ndtri(u)).exp()

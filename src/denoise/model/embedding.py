"""Embeddings of the noise level and of positions; no parameters, no randomness."""

import math

import torch
from torch import Tensor, nn

NO_CLASS = -1  # the label of an image whose class the network is not told


class Fourier(nn.Module):
    """[cos(w c), sin(w c)] sqrt(2), w geometric from `slowest` to `fastest` rad: (B,) -> (B, dim).

    c is EDM's c_noise = ln(sigma) / 4, within about [-1.6, 1.1]. The fixed ladder of frequencies stands for the
    random ones of Tancik et al. 2020, arXiv:2006.10739, so that an embedding needs no seed. Of an odd `dim` the last
    number is 0.
    """

    frequencies: Tensor

    def __init__(self, dim: int, slowest: float = 0.5, fastest: float = 50.0) -> None:
        super().__init__()
        self.dim = dim
        ladder = torch.logspace(math.log10(slowest), math.log10(fastest), dim // 2)
        self.register_buffer("frequencies", ladder, persistent=False)

    def forward(self, c: Tensor) -> Tensor:
        angle = c[:, None] * self.frequencies
        waves = torch.cat([angle.cos(), angle.sin()], dim=1) * math.sqrt(2)
        return nn.functional.pad(waves, (0, 1)) if self.dim % 2 else waves


def sin_cos_2d(dim: int, height: int, width: int) -> Tensor:
    """[sin(y w), cos(y w), sin(x w), cos(x w)], w = 10000^(-i / (dim/4)): (height * width, dim).

    Vaswani et al. 2017, arXiv:1706.03762, in two dimensions. `dim` must be a multiple of 4.
    """
    frequency = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    place = torch.arange(max(height, width))[:, None] * frequency  # (size, dim/4)
    y = place[:height, None].expand(height, width, -1)
    x = place[None, :width].expand(height, width, -1)
    return torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], dim=-1).reshape(height * width, dim)


def as_size(image_size: tuple[int, int]) -> str:
    """Say height and width: 32 of a square, 32x48 else."""
    height, width = image_size
    return f"{height}" if height == width else f"{height}x{width}"

"""Normalizations for (B, C, H, W) and (B, T, C) alike. Call shape: (num_channels) -> Module."""

import math

from torch import Tensor, nn


class OverChannels(nn.Module):
    """Apply a norm of the last dimension to the channels of each position.

    (B, T, C) is taken as it is; (B, C, H, W) is viewed as (B, H, W, C), which costs no copy in channels_last.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.norm(x)


class OverPositions(nn.Module):
    """Apply a norm of (B, C, *) to maps (B, C, H, W) or, with C moved, to tokens (B, T, C)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return self.norm(x.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)
        return self.norm(x)


def layer_norm(num_channels: int, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over the channels of each position.

    Ba, Kiros & Hinton 2016, arXiv:1607.06450. On maps it is the per-position form of ConvNeXt (2022).
    """
    return OverChannels(nn.LayerNorm(num_channels, eps=eps))


def rms_norm(num_channels: int, eps: float = 1e-6) -> nn.Module:
    """x / sqrt(mean(x^2) + eps) * gamma over the channels of each position. Zhang & Sennrich 2019, arXiv:1910.07467."""
    return OverChannels(nn.RMSNorm(num_channels, eps=eps))


def group_norm(num_channels: int, num_groups: int = 8, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over all positions of a group of channels.

    Wu & He 2018, arXiv:1803.08494. Where `num_groups` does not divide the channels, their greatest common
    divisor is taken.
    """
    return OverPositions(nn.GroupNorm(math.gcd(num_groups, num_channels), num_channels, eps=eps))


def batch_norm(num_channels: int, momentum: float = 0.1, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over batch and positions; running averages in evaluation.

    Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    return OverPositions(nn.BatchNorm2d(num_channels, momentum=momentum, eps=eps))

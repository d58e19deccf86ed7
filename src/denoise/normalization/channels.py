"""Norms over the channels of each position, and what acts on each position by itself."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from denoise.normalization.shape import Affine, ChannelsAtEnd, OverChannels, inverse_root

SMALL = 2.0**-12  # of x so much, where a gradient divides by x^2 and would underflow


def layer_norm(num_channels: int, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over the channels of each position.

    Ba, Kiros & Hinton 2016, arXiv:1607.06450. On maps it is the per-position form of ConvNeXt (2022).
    """
    return OverChannels(nn.LayerNorm(num_channels, eps=eps))


def rms_norm(num_channels: int, eps: float = 1e-6) -> nn.Module:
    """x / sqrt(mean(x^2) + eps) * gamma over the channels of each position. Zhang & Sennrich 2019, arXiv:1910.07467."""
    return RMSNorm(nn.RMSNorm(num_channels, eps=eps), eps)


def pixel_norm(num_channels: int, eps: float = 1e-8) -> nn.Module:
    """x / sqrt(mean(x^2) + eps) over the channels of each position, nothing learned.

    Karras et al. 2018, arXiv:1710.10196.
    """
    return RMSNorm(nn.RMSNorm(num_channels, eps=eps, elementwise_affine=False), eps)


class RMSNorm(ChannelsAtEnd):
    """x / sqrt(mean(x^2) + eps), times gamma where it is learned. torch's own gradient underflows from |x| = 1e13."""

    def __init__(self, norm: nn.RMSNorm, eps: float) -> None:
        super().__init__()
        self.norm, self.eps = norm, eps

    def _normalize(self, x: Tensor) -> Tensor:
        power = x.square().sum(dim=-1, keepdim=True) / x.shape[-1]
        y = x * inverse_root(power + self.eps)
        return y if self.norm.weight is None else y * self.norm.weight


class ScaleNorm(ChannelsAtEnd):
    """g x / max(|x|, eps), |x| over the channels of each position, one g learned from sqrt(C).

    Nguyen & Salazar 2019, arXiv:1910.05895.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.g = nn.Parameter(torch.tensor(math.sqrt(num_channels)))

    def _normalize(self, x: Tensor) -> Tensor:
        return self.g * functional.normalize(x, dim=-1, eps=self.eps)


class DynamicTanh(Affine, ChannelsAtEnd):
    """gamma * tanh(alpha x) + beta, one alpha learned: no statistics at all. Zhu et al. 2025, arXiv:2503.10622."""

    def __init__(self, num_channels: int, alpha: float = 0.5) -> None:
        super().__init__(num_channels)
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def _normalize(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, torch.tanh(self.alpha * x), self.weight)


class LocalResponseNorm(ChannelsAtEnd):
    """x / (k + alpha / size sum(x^2))^beta, the sum over `size` neighbouring channels of a position, zero outside.

    Krizhevsky, Sutskever & Hinton 2012, NIPS, who write alpha for our alpha / size: torch's form. Nothing learned.
    The sums are a product with a matrix of zeros and ones: for up to 64 channels five to ten times as fast as torch's,
    which pools.
    """

    near: Tensor

    def __init__(
        self, num_channels: int, size: int = 5, alpha: float = 5e-4, beta: float = 0.75, k: float = 2.0
    ) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        away = torch.arange(num_channels)[:, None] - torch.arange(num_channels)  # from which channel, to which
        near = (away >= -(size // 2)) & (away <= (size - 1) // 2)
        self.register_buffer("near", near, persistent=False)

    def _power(self, x: Tensor) -> Tensor:
        with _without_autocast(x):  # inf would be NaN in channels far from it: 0 inf
            bounded = functional.hardtanh(x.square(), -1.0, torch.finfo(x.dtype).max / self.size)
            return bounded @ self.near.to(x.dtype)

    def _normalize(self, x: Tensor) -> Tensor:
        small = x * SMALL
        below = (self._power(small) * (self.alpha / self.size)).add_(self.k * SMALL**2)
        return small * below.log().mul_(-self.beta).add_(math.log(SMALL) * (2 * self.beta - 1)).exp_()


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """No autocast within, where a device knows any: it would multiply in half precision."""
    kind = x.device.type
    known = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if known else nullcontext()

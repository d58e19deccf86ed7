"""Norms over the channels of each position, and what acts on each position by itself."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from denoise.normalization.shape import Affine, ChannelsAtEnd, OverChannels, OwnNorm


def layer_norm(num_channels: int, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over the channels of each position.

    Ba, Kiros & Hinton 2016, arXiv:1607.06450. On maps it is the per-position form of ConvNeXt (2022).
    """
    return OverChannels(nn.LayerNorm(num_channels, eps=eps))


def rms_norm(num_channels: int, eps: float = 1e-6) -> nn.Module:
    """x / sqrt(mean(x^2) + eps) * gamma over the channels of each position. Zhang & Sennrich 2019, arXiv:1910.07467."""
    return RMSNorm(nn.RMSNorm(num_channels, eps=eps))


def pixel_norm(num_channels: int, eps: float = 1e-8) -> nn.Module:
    """x / sqrt(mean(x^2) + eps) over the channels of each position, nothing learned.

    Karras et al. 2018, arXiv:1710.10196.
    """
    return RMSNorm(nn.RMSNorm(num_channels, eps=eps, elementwise_affine=False))


class RMSNorm(OwnNorm):
    """torch's RMSNorm, which on a CPU is a formula under autograd and takes a third longer."""

    only_on_cpu = True

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        self.norm = norm

    def _value(self, x: Tensor, *gamma: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], gamma[0] if gamma else None, self.norm.eps)

    def _value_and_kept(self, x: Tensor, *gamma: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        power = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
        scale = torch.rsqrt(power + self.norm.eps)
        y = x * scale
        return (y.mul_(*gamma) if gamma else y), (scale,)

    def _gradient(self, g: Tensor, x: Tensor, *saved: Tensor) -> tuple[Tensor, ...]:
        *gamma, scale = saved
        products = g * x
        pull = g * gamma[0] if gamma else g
        along = (pull * x if gamma else products).sum(dim=-1, keepdim=True)
        dx = (pull * scale).addcmul_(x, along * scale * scale * scale / -x.shape[-1])  # scale^3 would underflow
        return dx, *([products.mul_(scale).sum((0, 1))] if gamma else [])


class ScaleNorm(OwnNorm):
    """g x / max(|x|, eps), |x| over the channels of each position, one g learned from sqrt(C).

    Nguyen & Salazar 2019, arXiv:1910.05895.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.g = nn.Parameter(torch.tensor(math.sqrt(num_channels)))

    def _value(self, x: Tensor, g: Tensor) -> Tensor:
        return g * functional.normalize(x, dim=-1, eps=self.eps)

    def _value_and_kept(self, x: Tensor, g: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * (g / length.clamp_min(self.eps)), (length,)

    def _gradient(self, g: Tensor, x: Tensor, length_learned: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        scale = length.clamp_min(self.eps).reciprocal()
        along = (g * x).sum(dim=-1, keepdim=True)
        turn = torch.where(
            length >= self.eps, along * scale * scale * scale, 0.0
        )  # below eps the length does not count
        dx = (g * (length_learned * scale)).addcmul_(x, turn * -length_learned)
        return dx, along * scale


class DynamicTanh(Affine, ChannelsAtEnd):
    """gamma * tanh(alpha x) + beta, one alpha learned: no statistics at all. Zhu et al. 2025, arXiv:2503.10622."""

    def __init__(self, num_channels: int, alpha: float = 0.5) -> None:
        super().__init__(num_channels)
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def _normalize(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, torch.tanh(self.alpha * x), self.weight)


class LocalResponseNorm(OwnNorm):
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
            return x.square().clamp(max=torch.finfo(x.dtype).max / self.size) @ self.near.to(x.dtype)

    def _value(self, x: Tensor) -> Tensor:
        return x * torch.exp(torch.log(self._power(x) * (self.alpha / self.size) + self.k) * -self.beta)

    def _value_and_kept(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        below = self._power(x)
        below.mul_(self.alpha / self.size).add_(self.k)
        scale = below.log().mul_(-self.beta).exp_()
        return x * scale, (below, scale)

    def _gradient(self, g: Tensor, x: Tensor, below: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        with _without_autocast(x):
            back = (g * x).mul_(scale).div_(below) @ self.near.to(x.dtype).T
        return ((g * scale).addcmul_(x, back, value=-2 * self.alpha * self.beta / self.size),)


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """No autocast within, where a device knows any: it would multiply in half precision."""
    kind = x.device.type
    known = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if known else nullcontext()

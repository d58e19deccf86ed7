"""Normalizations for (B, C, H, W) and (B, T, C) alike. Call shape: (num_channels) -> Module.

A position is a pixel of a map or a token; gamma and beta are learned, one a channel, and start at 1 and 0. With one
position only, a norm over the positions of one channel has nothing to compare: it gives beta (instance_norm) or
the sign (frn), as its formula says.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from denoise.refusal import Refusal


def _in_full(x: Tensor) -> AbstractContextManager[object]:
    """No autocast within, where a device knows any: it would multiply in half precision."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


class ChannelsAtEnd(nn.Module):
    """A norm written for (B, T, C): tokens are taken as they are, the positions of a map as tokens.

    The view of a map costs no copy in channels_last. Half precision is taken as float32, as torch's own norms do
    under autocast.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in (torch.bfloat16, torch.float16):
            x = x.float()
        if x.ndim == 4:
            height, width = x.shape[2:]
            tokens = self._normalize(x.permute(0, 2, 3, 1).flatten(1, 2))
            return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return self._normalize(x)

    def _normalize(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class OverChannels(ChannelsAtEnd):
    """Apply a norm of the last dimension to the channels of each position."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def _normalize(self, x: Tensor) -> Tensor:
        return self.norm(x)


class OverPositions(nn.Module):
    """Apply a norm of (B, C, *) to maps (B, C, H, W) or to tokens (B, T, C), as maps of one row in channels_last."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return self.norm(x.unsqueeze(1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).squeeze(1)
        return self.norm(x)


class GroupNorm(nn.GroupNorm):
    """torch's, which also takes one image with one value a group: the result is beta."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class InstanceNorm(ChannelsAtEnd):
    """A group norm with a group for each channel; torch's takes twice as long where channels lie together."""

    def __init__(self, norm: GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4 and not x.is_contiguous(memory_format=torch.channels_last):
            return self.norm(x)
        return super().forward(x)

    def _normalize(self, x: Tensor) -> Tensor:
        count = max(1, x.shape[1])  # sums: the gradient of mean() is written out for every position
        centred = x - x.sum(dim=1, keepdim=True) / count
        scale = torch.rsqrt(centred.square().sum(dim=1, keepdim=True) / count + self.norm.eps)
        return torch.addcmul(self.norm.bias, centred, self.norm.weight * scale)


class BatchNorm(nn.BatchNorm2d):
    """torch's, which refuses a batch with one value a channel in words of ours."""

    def forward(self, x: Tensor) -> Tensor:
        if (self.training or not self.track_running_stats) and x.numel() == x.shape[1]:
            raise Refusal(
                "normalization=batch_norm: one image with one position has no variance; "
                "take data.batch_size=16 or more, or normalization=layer_norm"
            )
        return super().forward(x)


def layer_norm(num_channels: int, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over the channels of each position.

    Ba, Kiros & Hinton 2016, arXiv:1607.06450. On maps it is the per-position form of ConvNeXt (2022).
    """
    return OverChannels(nn.LayerNorm(num_channels, eps=eps))


def rms_norm(num_channels: int, eps: float = 1e-6) -> nn.Module:
    """x / sqrt(mean(x^2) + eps) * gamma over the channels of each position. Zhang & Sennrich 2019, arXiv:1910.07467."""
    return OverChannels(nn.RMSNorm(num_channels, eps=eps))


def pixel_norm(num_channels: int, eps: float = 1e-8) -> nn.Module:
    """x / sqrt(mean(x^2) + eps) over the channels of each position, nothing learned.

    Karras et al. 2018, arXiv:1710.10196.
    """
    return OverChannels(nn.RMSNorm(num_channels, eps=eps, elementwise_affine=False))


def group_norm(num_channels: int, num_groups: int = 8, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over all positions of a group of channels.

    Wu & He 2018, arXiv:1803.08494. Where `num_groups` does not divide the channels, their greatest common
    divisor is taken.
    """
    return OverPositions(GroupNorm(math.gcd(num_groups, num_channels), num_channels, eps=eps))


def instance_norm(num_channels: int, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over the positions of each channel of an image.

    Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022: a group norm with a group for each channel.
    """
    return InstanceNorm(GroupNorm(num_channels, num_channels, eps=eps))


def batch_norm(num_channels: int, momentum: float = 0.1, eps: float = 1e-5, track: bool = True) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over batch and positions; running averages in evaluation.

    Ioffe & Szegedy 2015, arXiv:1502.03167. Without `track` evaluation too takes the statistics of its batch, so
    that an image's result depends on its neighbours, and `momentum` is nobody's. Errors: Refusal for a batch with
    one value a channel.
    """
    return OverPositions(BatchNorm(num_channels, momentum=momentum, eps=eps, track_running_stats=track))


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


class _Affine(ChannelsAtEnd):
    """A norm with gamma and beta."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def _affine(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, x, self.weight)


class DynamicTanh(_Affine):
    """gamma * tanh(alpha x) + beta, one alpha learned: no statistics at all. Zhu et al. 2025, arXiv:2503.10622."""

    def __init__(self, num_channels: int, alpha: float = 0.5) -> None:
        super().__init__(num_channels)
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    def _normalize(self, x: Tensor) -> Tensor:
        return self._affine(torch.tanh(self.alpha * x))


class FilterResponseNorm(_Affine):
    """x / sqrt(mean(x^2) + eps) * gamma + beta over the positions of each channel of an image; no mean is taken off.

    Singh & Krishnan 2019, arXiv:1911.09737. The paper's thresholded unit max(y, tau) after it is left out: it is
    an activation, and the activation is chosen on its own. So is the paper's learned eps for maps of one position.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels)
        self.eps = eps

    def _normalize(self, x: Tensor) -> Tensor:
        power = x.square().mean(dim=1, keepdim=True)
        return torch.addcmul(self.bias, x, self.weight * torch.rsqrt(power + self.eps))


class EvoNormS0(_Affine):
    """x sigmoid(v x) / sqrt(var + eps) * gamma + beta, var over all positions of a group of channels, v learned.

    Liu et al. 2020, arXiv:2004.02967. The numerator is a nonlinearity (swish), which the paper puts in the place of
    norm and activation both; here the chosen activation follows all the same. v is one a channel and starts at 1.
    Where `num_groups` does not divide the channels, their greatest common divisor is taken.
    """

    def __init__(self, num_channels: int, num_groups: int = 8, eps: float = 1e-5) -> None:
        super().__init__(num_channels)
        self.num_groups, self.eps = math.gcd(num_groups, num_channels), eps
        self.v = nn.Parameter(torch.ones(num_channels))

    def _normalize(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(self._mean((x - self._mean(x)).square()) + self.eps)
        return torch.addcmul(self.bias, x * torch.sigmoid(self.v * x), self.weight * scale)

    def _mean(self, x: Tensor) -> Tensor:
        """Over positions first, which is the quick order, then over a group: (B, T, C) -> (B, 1, C)."""
        channels = x.mean(dim=1, keepdim=True)
        groups = channels.unflatten(-1, (self.num_groups, -1))
        return groups.mean(dim=-1, keepdim=True).expand_as(groups).flatten(-2)


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

    def _normalize(self, x: Tensor) -> Tensor:
        with _in_full(x):
            power = x.square() @ self.near.to(x.dtype)
        return x * torch.exp(torch.log(power * (self.alpha / self.size) + self.k) * -self.beta)

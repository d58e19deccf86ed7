"""Norms over the positions of an image, channel by channel or in groups, and over the whole batch."""

import math

import torch
from torch import Tensor, nn

from denoise.errors import UserError
from denoise.normalization.shape import Affine, ChannelsAtEnd, OverPositions, inverse_root, mean_of_groups
from denoise.precision import wide


def group_norm(num_channels: int, num_groups: int = 8, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over all positions of a group of channels.

    Wu & He 2018, arXiv:1803.08494. Where `num_groups` does not divide the channels, their greatest common
    divisor is taken.
    """
    return OverPositions(GroupNorm(math.gcd(num_groups, num_channels), num_channels, eps=eps))


class GroupNorm(nn.GroupNorm):
    """torch's of maps, which also takes one image with one value a group: the result is beta.

    On a CPU torch takes the variance of maps in channels_last as E x^2 - (E x)^2, which has no digits left where the
    mean is a thousand standard deviations. So the mean is taken off first. That changes nothing in the formula, and so
    nothing in its gradient: to autograd it is a constant, but where it is the group's only value.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not x.numel():  # torch's gradient of gamma would be 0 / 0
            return x * self.weight[:, None, None] + self.bias[:, None, None]
        if x.device.type == "cpu":
            x = self._centred(wide(x) if torch.is_autocast_enabled("cpu") else x)
        try:
            return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        except RuntimeError:  # in forward mode torch takes no channels_last
            return torch.group_norm(x.contiguous(), self.num_groups, self.weight, self.bias, self.eps)

    def _centred(self, x: Tensor) -> Tensor:
        """x less one value of its group, which leaves 0 of values all alike, less the mean of what is left."""
        size = self.num_channels // self.num_groups
        count = size * x.shape[2] * x.shape[3]
        if count == 1:
            return x - x
        rest = x - x.detach()[:, ::size, :1, :1].repeat_interleave(size, 1)
        total = rest.detach().sum((2, 3), keepdim=True).unflatten(1, (self.num_groups, size)).sum(2)
        return rest.sub_(total.div_(count).repeat_interleave(size, 1))


def instance_norm(num_channels: int, eps: float = 1e-5) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over the positions of each channel of an image.

    Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022: a group norm with a group for each channel.
    """
    return InstanceNorm(GroupNorm(num_channels, num_channels, eps=eps))


class InstanceNorm(ChannelsAtEnd):
    """A group norm with a group for each channel; torch's takes several times as long where channels lie together."""

    def __init__(self, norm: GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4 and x.stride(1) != 1:
            return self.norm(x)
        return super().forward(x)

    def _normalize(self, x: Tensor) -> Tensor:
        centred = x - mean_of_groups(x, x.shape[-1])
        power = centred.square().sum(dim=1, keepdim=True) / max(1, x.shape[1])
        return torch.addcmul(self.norm.bias, centred, self.norm.weight * inverse_root(power + self.norm.eps))


def batch_norm(num_channels: int, momentum: float = 0.1, eps: float = 1e-5, track: bool = True) -> nn.Module:
    """(x - mean) / sqrt(var + eps) * gamma + beta over batch and positions; running averages in evaluation.

    Ioffe & Szegedy 2015, arXiv:1502.03167. Without `track` evaluation too takes the statistics of its batch, so
    that an image's result depends on its neighbours, and `momentum` is not used. Errors: UserError for a batch with
    one value a channel.
    """
    return OverPositions(BatchNorm(num_channels, momentum=momentum, eps=eps, track_running_stats=track))


class BatchNorm(nn.BatchNorm2d):
    """torch's, which refuses a batch with one value a channel in words of ours."""

    def forward(self, x: Tensor) -> Tensor:
        if (self.training or not self.track_running_stats) and x.numel() == x.shape[1]:
            raise UserError(
                "normalization=batch_norm: one image with one position has no variance; "
                "take data.batch_size=16 or more, or normalization=layer_norm"
            )
        return super().forward(x)


class FilterResponseNorm(Affine, ChannelsAtEnd):
    """x / sqrt(mean(x^2) + eps) * gamma + beta over the positions of each channel of an image; no mean is taken off.

    Singh & Krishnan 2019, arXiv:1911.09737. The paper's thresholded unit max(y, tau) after it is left out: it is
    an activation, and the activation is chosen on its own. So is the paper's learned eps for maps of one position.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels)
        self.eps = eps

    def _normalize(self, x: Tensor) -> Tensor:
        power = x.square().sum(dim=1, keepdim=True) / max(1, x.shape[1])
        return torch.addcmul(self.bias, x, self.weight * inverse_root(power + self.eps))


class EvoNormS0(Affine, ChannelsAtEnd):
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
        centred = x - mean_of_groups(x, self.num_groups)
        power = self._shared(centred.square().sum(dim=1, keepdim=True)) / max(1, x.shape[1])
        return torch.addcmul(self.bias, x * torch.sigmoid(self.v * x), self.weight * inverse_root(power + self.eps))

    def _shared(self, channels: Tensor) -> Tensor:
        """Each channel's number as the mean of its group's: (B, 1, C) -> (B, 1, C)."""
        groups = channels.unflatten(-1, (self.num_groups, -1))
        return groups.mean(dim=-1, keepdim=True).expand_as(groups).flatten(-2)

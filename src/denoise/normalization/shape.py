"""How a norm meets maps and tokens."""

import torch
from torch import Tensor, nn

from denoise.precision import wide


def as_tokens(x: Tensor) -> Tensor:
    """Positions as tokens: maps (B, C, H, W) -> (B, H W, C), a view in channels_last; tokens as they are."""
    return x.permute(0, 2, 3, 1).flatten(1, 2) if x.ndim == 4 else x


def as_before(tokens: Tensor, x: Tensor) -> Tensor:
    """Tokens (B, T, C) as maps in channels_last, where x are maps."""
    return tokens.view(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2) if x.ndim == 4 else tokens


def mean_of_groups(x: Tensor, num_groups: int) -> Tensor:
    """The mean of a group of channels over all positions, for each of its channels: (B, T, C) -> (B, 1, C).

    As the first value plus the mean distance from it, which keeps the digits of both: values that are all alike are
    their mean, to the last bit.
    """
    size = x.shape[-1] // num_groups
    first = x[:, :1, ::size].detach()
    first = first.unsqueeze(-1).expand(-1, -1, -1, size).flatten(2)
    total = (x - first).sum(dim=1, keepdim=True).view(len(x), 1, num_groups, size)
    mean = total.sum(dim=-1, keepdim=True) / max(1, size * x.shape[1])
    return first + mean.expand_as(total).flatten(2)


def inverse_root(power: Tensor) -> Tensor:
    """1 / sqrt(power). The gradient of torch's rsqrt takes its cube, which underflows where its square does not."""
    return power.sqrt().reciprocal()


class ChannelsAtEnd(nn.Module):
    """A norm written for (B, T, C): tokens are taken as they are, the positions of a map as tokens.

    Its gradient is autograd's. Sums over positions are taken as `sum`: the gradient of `mean` is written out for every
    position.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = wide(x)
        return as_before(self._normalize(as_tokens(x)), x)

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


class Affine(nn.Module):
    """What has gamma and beta; they come first of what it has learned."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

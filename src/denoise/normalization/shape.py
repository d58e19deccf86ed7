"""How a norm meets maps and tokens."""

import torch
from torch import Tensor, nn

from denoise.recomputed import Recomputed


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


class OwnNorm(ChannelsAtEnd, Recomputed):
    """A norm with a gradient of its own: fewer passes over the map than autograd takes through its formula.

    Sums over positions are taken as `sum`: the gradient of `mean` is written out for every position.
    """

    def _normalize(self, x: Tensor) -> Tensor:
        return Recomputed.forward(self, x)


class Affine(nn.Module):
    """What has gamma and beta; they come first of what it has learned."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

"""Convolutions that are quicker as products of matrices, on a CPU where MKL multiplies well."""

import torch
from torch import Tensor, nn

from denoise.kernels.linear import CONVOLVES

PRODUCTS = torch.backends.mkl.is_available() and not CONVOLVES


class Pointwise(nn.Conv2d):
    """W x + b at each position, a convolution of one position by one: (B, in, H, W) -> (B, out, H, W).

    oneDNN takes up to twice as long for it as MKL for the same product, on a view of small maps in channels_last; for
    large ones it makes no difference (an Emerald Rapids).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not _by_products(x):
            return super().forward(x)
        batch, _, height, width = x.shape
        y = nn.functional.linear(x.permute(0, 2, 3, 1).flatten(0, 2), self.weight.flatten(1), self.bias)
        return y.view(batch, height, width, self.out_channels).permute(0, 3, 1, 2)


class Last(nn.Conv2d):
    """A convolution of 3 x 3 positions to an image: (B, in, H, W) -> (B, channels, H, W).

    oneDNN computes some sixteen output channels at once, so that an image of one costs as much as sixteen. Then each
    position's share in its nine neighbours is a product of matrices, of which an output is the sum: half the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.out_channels > 1 or not _by_products(x):
            return super().forward(x)
        batch, _, height, width = x.shape
        shares = self.weight[0].flip(1, 2).flatten(1).T @ x.permute(0, 2, 3, 1).flatten(0, 2).T
        shares = shares.view(9, batch, height * width).transpose(0, 1)
        y = nn.functional.fold(shares, (height, width), 3, padding=1)
        return y if self.bias is None else y + self.bias[:, None, None]


def _by_products(x: Tensor) -> bool:
    """Whether a convolution of these maps is done by products of matrices."""
    if torch.compiler.is_compiling() or not PRODUCTS or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)

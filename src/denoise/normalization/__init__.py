"""Normalizations for (B, C, H, W) and (B, T, C) alike. Call shape: (num_channels) -> Module.

A position is a pixel of a map or a token; gamma and beta are learned, one a channel, and start at 1 and 0. With one
position only, a norm over the positions of one channel has nothing to compare: it gives beta (instance_norm) or
the sign (frn), as its formula says.
"""

from denoise.normalization.channels import DynamicTanh, LocalResponseNorm, ScaleNorm, layer_norm, pixel_norm, rms_norm
from denoise.normalization.positions import EvoNormS0, FilterResponseNorm, batch_norm, group_norm, instance_norm

__all__ = [
    "DynamicTanh",
    "EvoNormS0",
    "FilterResponseNorm",
    "LocalResponseNorm",
    "ScaleNorm",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "pixel_norm",
    "rms_norm",
]

"""Activations that torch lacks. An option is a file in conf/activation; call shape: ([num_channels]) -> Module.

The channel count is optional, and reaches only what has something of its own per channel. Channels are dimension 1
of maps (B, C, H, W) and the last of (B, T, C) and (B, C). Any shape in, the same shape and type out.
"""

from denoise.activation.elementwise import Elementwise
from denoise.activation.gated import (
    SRS,
    GELUCauchy,
    GELUSigma,
    GELUStochastic,
    LiSHT,
    Logish,
    Mish,
    Serf,
    Swish,
    TanhExp,
)
from denoise.activation.learned import APL, PAU, Snake
from denoise.activation.rectified import (
    PDELU,
    PELU,
    ABReLU,
    BReLU,
    PReLU,
    RReLU,
    SMeLU,
    SquaredReLU,
    StarReLU,
)
from denoise.activation.sigmoidal import Elliott, ParametricSigmoid, ReSech, ScaledTanh

__all__ = [
    "APL",
    "PAU",
    "PDELU",
    "PELU",
    "SRS",
    "ABReLU",
    "BReLU",
    "Elementwise",
    "Elliott",
    "GELUCauchy",
    "GELUSigma",
    "GELUStochastic",
    "LiSHT",
    "Logish",
    "Mish",
    "PReLU",
    "ParametricSigmoid",
    "RReLU",
    "ReSech",
    "SMeLU",
    "ScaledTanh",
    "Serf",
    "Snake",
    "SquaredReLU",
    "StarReLU",
    "Swish",
    "TanhExp",
]

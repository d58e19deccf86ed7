"""Activations that torch lacks. An option is a file in conf/activation; call shape: ([num_channels]) -> Module.

The channel count is optional, and reaches only what has something of its own per channel. Channels are dimension 1
of maps (B, C, H, W) and the last of (B, T, C) and (B, C). Any shape in, the same shape and type out.
"""

# ruff: noqa: F403
from denoise.activation.gated import *  # a class in one of these files is an activation without a line here
from denoise.activation.learned import *
from denoise.activation.rectified import *
from denoise.activation.sigmoidal import *

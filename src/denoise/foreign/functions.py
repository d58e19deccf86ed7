"""Which functions, operators and classes of torch are activations, gates and normalizations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATION_OPERATORS = frozenset(
    "silu silu_ gelu gelu_ relu relu_ leaky_relu leaky_relu_ elu elu_ celu selu hardswish hardswish_ hardsigmoid "
    "hardtanh hardtanh_ mish mish_ softplus softshrink hardshrink threshold tanh tanh_ sigmoid sigmoid_ "
    "log_sigmoid_forward erf glu rrelu_with_noise _prelu_kernel".split()
)
NORM_OPERATORS = frozenset(
    "native_group_norm native_layer_norm _fused_rms_norm native_batch_norm _native_batch_norm_legit "
    "_native_batch_norm_legit_functional _batch_norm_with_update rsqrt".split()
)


def _all(*names: str) -> dict[Callable[..., Any], str]:
    """Each function by which a name is called: of torch.nn.functional, of torch, the method."""
    found = {}
    for name in names:
        for place in (functional, torch, Tensor):
            function = getattr(place, name, None)
            if function is not None:
                found[function] = name
    return found


ACTIVATIONS = _all("silu", "gelu", "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "mish", "hardswish")
GATES = _all("sigmoid", "tanh", "hardsigmoid", "hardtanh", "logsigmoid", "softsign", "softplus", "tanhshrink")
IN_PLACE = _all("silu_", "relu_", "leaky_relu_", "elu_", "celu_", "selu_", "hardtanh_", "sigmoid_", "tanh_")
NORMS = _all("group_norm", "layer_norm", "rms_norm", "batch_norm", "instance_norm", "rsqrt")

ACTIVATION_CLASSES: tuple[type[nn.Module], ...] = (
    *(nn.SiLU, nn.GELU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.Hardswish, nn.Mish),
    *(nn.PReLU, nn.RReLU, nn.Softshrink, nn.Hardshrink, nn.Threshold),
)
GATE_CLASSES: tuple[type[nn.Module], ...] = (
    *(nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Tanhshrink),
)
CHANNELS_FIRST: tuple[type[nn.Module], ...] = (
    *(nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LocalResponseNorm),
)
CHANNELS_LAST: tuple[type[nn.Module], ...] = (nn.LayerNorm, nn.RMSNorm)
CONVOLUTIONS: tuple[type[nn.Module], ...] = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)

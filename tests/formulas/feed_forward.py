"""The formula of every feed_forward, in float64."""

from collections.abc import Callable

import torch
from torch import Tensor

from formulas.activation import ACTIVATION

Weights = dict[str, Tensor]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return torch.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def mlp(x: Tensor, w: Weights, act: Callable[[Tensor], Tensor]) -> Tensor:
    return linear(act(linear(x, w, "hidden")), w, "out")


def gated(gate: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def glu(x: Tensor, w: Weights, act: Callable[[Tensor], Tensor]) -> Tensor:
        both = linear(x, w, "hidden")
        half = both.shape[-1] // 2
        return linear(gate(both[..., :half]) * both[..., half:], w, "out")

    return glu


# (x, the module's weights by name, the formula of the chosen activation) -> output
FEED_FORWARD: dict[str, Callable[..., Tensor]] = {
    "geglu": gated(ACTIVATION["gelu"]),
    "mlp": mlp,
    "swiglu": gated(ACTIVATION["silu"]),
}

"""The formula of every feed_forward, in float64."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.formulas.activation import ACTIVATION

Weights = dict[str, Tensor]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return torch.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def mlp(x: Tensor, w: Weights, act: Callable[[Tensor], Tensor]) -> Tensor:
    return linear(act(linear(x, w, "hidden")), w, "out")


def gated(gate: Callable[..., Tensor], *learned: str) -> Callable[..., Tensor]:
    def glu(x: Tensor, w: Weights, act: Callable[[Tensor], Tensor]) -> Tensor:
        both = linear(x, w, "hidden")
        half = both.shape[-1] // 2
        return linear(gate(both[..., :half], *(w[name] for name in learned)) * both[..., half:], w, "out")

    return glu


# (x, the module's weights by name, the formula of the chosen activation) -> output
FEED_FORWARD: dict[str, Callable[..., Tensor]] = {
    "bilinear": gated(lambda x: x),
    "geglu": gated(ACTIVATION["gelu"]),
    "glu": gated(lambda x: 1 / (1 + (-x).exp())),
    "mlp": mlp,
    "reglu": gated(lambda x: x.clamp(min=0)),
    "swiglu": gated(ACTIVATION["silu"]),
    "swiglu_beta": gated(lambda x, beta: x / (1 + (-beta * x).exp()), "gate.beta"),
}

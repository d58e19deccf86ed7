"""The formula of every weight_normalization, in float64."""

from collections.abc import Callable

from torch import Tensor

Weights = dict[str, Tensor]


def weight_norm(w: Weights) -> Tensor:
    g, v = w["original0"], w["original1"]
    length = (v.flatten(1) ** 2).sum(dim=1).sqrt()
    return g * v / length.reshape(g.shape)


# (the module's parameters by their last name, without the bias, **parameters) -> the weight that it uses
WEIGHT_NORMALIZATION: dict[str, Callable[..., Tensor]] = {
    "none": lambda w: w["weight"],
    "weight_norm": weight_norm,
}

"""Who gets weight decay and who is a matrix: the parameter groups of a model."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn


def is_matrix(parameter: Tensor) -> bool:
    """Tell a matrix or convolution weight from biases, gains and the lengths of a weight normalization."""
    return parameter.ndim >= 2 and parameter.numel() > parameter.shape[0]


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Split trainable parameters in two: matrices, and the rest without weight decay.

    A matrix has two or more dimensions (a weight normalization's lengths, one number per output channel, are none)
    and stands in no module that the catalogue built as an activation or a normalization, whatever its shape there.
    """
    components = [m for m in model.modules() if getattr(m, "kind", None) in ("activation", "normalization")]
    within = {id(parameter) for component in components for parameter in component.parameters()}
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (matrices if is_matrix(parameter) and id(parameter) not in within else rest).append(parameter)
    groups = ({"params": matrices, "matrices": True}, {"params": rest, "matrices": False, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def halves(params: Iterable[Any], matrices: Mapping[str, Any], rest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give matrices one set of settings and all other parameters another.

    `params`: tensors, split by shape, or groups; a group's `matrices` says what all of it is, and its further
    settings, such as `weight_decay`, stand above both sets.
    """
    given = list(params)
    groups = given if given and isinstance(given[0], dict) else [{"params": given}]
    split = []
    for group in groups:
        own = {name: value for name, value in group.items() if name not in ("params", "matrices")}
        for kind, settings in ((True, matrices), (False, rest)):
            members = [p for p in group["params"] if group.get("matrices", is_matrix(p)) == kind]
            if members:
                split.append({**settings, **own, "params": members})
    return split

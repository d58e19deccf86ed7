"""Who gets weight decay and who is a matrix: the parameter groups of a model."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim import Optimizer

LAYERS: tuple[type[nn.Module], ...] = (
    *(nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, ParametrizationList),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def is_matrix(parameter: Tensor) -> bool:
    """Tell a matrix or convolution weight from biases, gains and the lengths of a weight normalization."""
    return parameter.ndim >= 2 and parameter.numel() > parameter.shape[0]


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Split trainable parameters in two: matrices, and the rest without weight decay.

    A matrix has two or more dimensions (a weight normalization's lengths, one number per output channel, are none)
    and stands in no module that the catalogue built as an activation or a normalization, whatever its shape there. In a
    network that is not ours it is the weight of a linear layer, a convolution or an attention: a table of an embedding,
    a position or a gain that is written by hand is none, nor is what is tied to one.
    """
    components = [m for m in model.modules() if getattr(m, "kind", None) in ("activation", "normalization")]
    within = {id(parameter) for component in components for parameter in component.parameters()}
    for module in (each for net in model.modules() if getattr(net, "foreign", False) for each in net.modules()):
        if not isinstance(module, LAYERS):
            within.update(id(parameter) for parameter in module.parameters(recurse=False))
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (matrices if is_matrix(parameter) and id(parameter) not in within else rest).append(parameter)
    groups = ({"params": matrices, "matrices": True}, {"params": rest, "matrices": False, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def split_matrices(
    group: Mapping[str, Any], matrices: Mapping[str, Any], rest: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Divide a group in two, its matrices with one set of settings and all others with another.

    `params`: tensors or (name, tensor) pairs, told apart by their shapes, or by `matrices`, which says what all of them
    are. The group's further settings, such as `weight_decay`, stand above those of `matrices`, not above `rest`.
    """
    own = {name: value for name, value in group.items() if name not in ("params", "matrices")}
    params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
    kinds = [bool(group.get("matrices", _is_named_matrix(p))) for p in params]
    members = {kind: [p for p, its in zip(params, kinds, strict=True) if its == kind] for kind in (True, False)}
    settings = {True: {**matrices, **own}, False: {**own, **rest}}
    return [{**settings[kind], "params": members[kind]} for kind in members if members[kind] or not (kind or params)]


def _is_named_matrix(parameter: Any) -> bool:
    tensor = parameter[1] if isinstance(parameter, tuple) else parameter
    return isinstance(tensor, Tensor) and is_matrix(tensor)


class Halved(Optimizer):
    """An optimizer that gives matrices other settings than the rest: each group that it is given becomes two."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, or two where it holds matrices and others. Errors: torch's own."""
        if not isinstance(param_group, dict) or isinstance(param_group["params"], set):
            super().add_param_group(param_group)
            return
        for half in split_matrices(param_group, self._apart(True), self._apart(False)):
            super().add_param_group(half)

    def _apart(self, matrices: bool) -> dict[str, Any]:
        """The settings of the matrices, or of the rest, that are not the same for both."""
        raise NotImplementedError

"""One pass over a backbone: the initializer for all weights, then the exceptions, then weight normalization."""

import torch
from torch import nn

from denoise.block import Modulation, Part, Parts
from denoise.randomness import seeded

Weighted = (nn.Linear, nn.Conv2d)


@torch.no_grad()
def initialize(backbone: nn.Module, parts: Parts, seed: int) -> None:
    """Set every weight by its part's initializer, from the stream (seed, "init/" + its name); biases to zero.

    Exceptions: modulations start at zero (the identity), and with `zero_output` so do the last layers of the
    residual branches and of the network. Weight normalization comes after and leaves out the layers that start at
    zero, since a vector of length zero has no direction.
    """
    zeroed = {layer for module in backbone.modules() if isinstance(module, Modulation) for layer in [module.out]}
    if parts.zero_output:
        for module in backbone.modules():
            if hasattr(module, "zero_layers"):
                zeroed.update(module.zero_layers())
    owned = _owners(backbone, parts)
    for name, layer in owned.items():
        module, part = layer
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if module in zeroed:
            nn.init.zeros_(module.weight)
            continue
        with seeded(seed, f"init/{name}"):
            part.initializer(module.weight, part.activation())
    for module, part in owned.values():
        if module not in zeroed:
            part.weight_normalization(module)


def _owners(backbone: nn.Module, parts: Parts) -> dict[str, tuple[nn.Module, Part]]:
    """Each weighted layer by name, with the part it stands in: that of its nearest ancestor that names one."""
    default = getattr(parts, backbone.part_names[0])  # type: ignore[index]
    found: dict[str, tuple[nn.Module, Part]] = {}

    def visit(module: nn.Module, name: str, part: Part) -> None:
        part = getattr(parts, str(module.part_name)) if hasattr(module, "part_name") else part
        if isinstance(module, Weighted):
            found[name] = (module, part)
        for child_name, child in module.named_children():
            visit(child, f"{name}.{child_name}" if name else child_name, part)

    visit(backbone, "", default)
    return found

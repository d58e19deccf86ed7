"""One pass over a backbone: the initializer for all weights, then the exceptions, then weight normalization."""

from typing import Any

import torch
from torch import nn

from denoise.block import Modulation, Part, Parts
from denoise.randomness import seeded


@torch.no_grad()
def initialize(backbone: nn.Module, parts: Parts, seed: int) -> None:
    """Set every weight by its part's initializer, from the stream (seed, "init/" + its name); biases to zero.

    Exceptions: modulations start at zero (the identity), and with `zero_output` so do the last layers of the
    residual branches and of the network. Weight normalization comes after, with the stream
    (seed, "weight_normalization/" + name) for what it draws. It leaves out a layer with an output channel that starts
    at zero, since a vector of length zero has no direction.
    """
    zeroed: set[nn.Module] = {module.out for module in backbone.modules() if isinstance(module, Modulation)}
    if parts.zero_output:
        for module in backbone.modules():
            zeroed.update(getattr(module, "zero_layers", list)())
    owned = _owners(backbone, parts)
    for name, (layer, part) in owned.items():
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if layer in zeroed:
            nn.init.zeros_(layer.weight)
            continue
        with seeded(seed, f"init/{name}"):
            part.initializer(layer.weight, part.activation())
    for name, (layer, part) in owned.items():
        if layer.weight.flatten(1).any(dim=1).all():
            with seeded(seed, f"weight_normalization/{name}"):
                part.weight_normalization(layer)


def _owners(backbone: nn.Module, parts: Parts) -> dict[str, tuple[nn.Linear | nn.Conv2d, Part]]:
    """Each weighted layer by name, with the part it stands in: that of its nearest ancestor that names one."""
    found: dict[str, tuple[nn.Linear | nn.Conv2d, Part]] = {}

    def visit(module: nn.Module, name: str, part: Part) -> None:
        part = getattr(parts, str(module.part_name)) if hasattr(module, "part_name") else part
        if isinstance(module, nn.Linear | nn.Conv2d):
            found[name] = (module, part)
        for child_name, child in module.named_children():
            visit(child, f"{name}.{child_name}" if name else child_name, part)

    names: Any = backbone.part_names
    visit(backbone, "", getattr(parts, names[0]))
    return found

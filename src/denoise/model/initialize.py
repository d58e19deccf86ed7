"""One pass over a backbone: the initializer for all weights, then the exceptions, then weight normalization.

A second pass, over the whole denoiser, is for initializers that need one.
"""

from typing import Any

import torch
from torch import nn

from denoise.initializer.stage import Report, Scope, Stage
from denoise.model.block import Modulation, Part, Parts
from denoise.randomness import seeded


@torch.no_grad()
def initialize(backbone: nn.Module, parts: Parts, seed: int) -> dict[Stage, Scope]:
    """Set every weight by its part's initializer, from the stream (seed, "init/" + its name); biases to zero.

    Exceptions: modulations start at zero (the identity), and with `zero_output` so do the last layers of the
    residual branches and of the network. Weight normalization comes after, with the stream
    (seed, "weight_normalization/" + name) for what it draws. It leaves out a layer with an output channel that starts
    at zero, since a vector of length zero has no direction. Returned is what is left for `finish`, and where.
    """
    zeroed = start_at_zero(backbone, parts.zero_output)
    stages: dict[Stage, list[Part]] = {}
    layers = {name: (layer, getattr(parts, part)) for name, (layer, part) in layers_of(backbone).items()}
    for name, (layer, part) in layers.items():
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if layer in zeroed:
            nn.init.zeros_(layer.weight)
            continue
        with seeded(seed, f"init/{name}"):
            stage = part.initializer(layer.weight, part.activation())
        if stage is not None and part not in stages.setdefault(stage, []):
            stages[stage].append(part)
    for name, (layer, part) in layers.items():
        if layer.weight.flatten(1).any(dim=1).all():
            with seeded(seed, f"weight_normalization/{name}"):
                part.weight_normalization(layer)
    return {
        stage: Scope(
            {name: module for name, (module, part) in owners(backbone).items() if getattr(parts, part) in its_parts},
            zeroed,
        )
        for stage, its_parts in stages.items()
    }


def finish(stages: dict[Stage, Scope], denoiser: nn.Module, batch: tuple[Any, ...], seed: int) -> list[Report]:
    """Do the second stages, those that look at the batch last. `batch` is what denoiser.loss takes."""
    reports = []
    for stage, scope in sorted(stages.items(), key=lambda item: item[0].needs_batch):
        with seeded(seed, "init/stage"):
            reports.append(stage.finish(denoiser, batch, scope))
    return reports


def start_at_zero(backbone: nn.Module, zero_output: bool) -> set[nn.Module]:
    """The layers that start at zero: modulations, and with `zero_output` the last of each branch and of the network."""
    zeroed: set[nn.Module] = {module.out for module in backbone.modules() if isinstance(module, Modulation)}
    if zero_output:
        for module in backbone.modules():
            zeroed.update(getattr(module, "zero_layers", list)())
    return zeroed


def layers_of(backbone: nn.Module) -> dict[str, tuple[nn.Linear | nn.Conv2d, str]]:
    """The layers whose weights an initializer sets, by name, each with the part that it stands in."""
    return {n: (m, part) for n, (m, part) in owners(backbone).items() if isinstance(m, nn.Linear | nn.Conv2d)}


def owners(backbone: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Each module by name, with the part it stands in: that of its nearest ancestor that names one."""
    found: dict[str, tuple[nn.Module, str]] = {}

    def visit(module: nn.Module, name: str, part: str) -> None:
        part = str(getattr(module, "part_name", part))
        found[name] = (module, part)
        for child_name, child in module.named_children():
            visit(child, f"{name}.{child_name}" if name else child_name, part)

    names: Any = backbone.part_names
    visit(backbone, "", names[0])
    return found

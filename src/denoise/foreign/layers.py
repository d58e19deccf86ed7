"""The layers of a host whose weights an initializer sets and a weight normalization takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from denoise.foreign.functions import CONVOLUTIONS
from denoise.initializer.stage import Scope, Stage
from denoise.model.block import chosen
from denoise.randomness import seeded

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
BIASES = {"weight": "bias", "in_proj_weight": "in_proj_bias"}


@dataclass(frozen=True)
class ForeignLayer:
    """A weight of a network, and where it stands: the module that holds it, under which name, and its part."""

    name: str
    module: nn.Module
    attribute: str
    part: str
    calls: int = 1

    @property
    def weight(self) -> Tensor:
        """(out, in, ...)."""
        return self.module.get_parameter(self.attribute)

    @property
    def normalizable(self) -> bool:
        """Whether a weight normalization can take it: rows are its output channels, it is used once in a forward."""
        plain = self.attribute == "weight" and not isinstance(self.module, TRANSPOSED)
        return plain and self.calls < 2 and bool(self.weight.flatten(1).any(dim=1).all())


def layers(net: nn.Module, part_of: dict[nn.Module, str], main: str, calls: dict[nn.Module, int]) -> list[ForeignLayer]:
    """The linear layers, convolutions and attentions of a network but for what is frozen or tied to another."""
    owners: dict[int, list[nn.Module]] = {}
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(module)
    found = []
    for name, module in net.named_modules():
        if not isinstance(module, (nn.Linear, nn.MultiheadAttention, *CONVOLUTIONS)):
            continue
        own = dict(module.named_parameters(recurse=False))
        for attribute in WEIGHTS:
            weight = own.get(attribute)
            if weight is not None and weight.requires_grad and len(owners[id(weight)]) == 1:
                part, count = part_of.get(module, main), calls.get(module, 0)
                found.append(ForeignLayer(f"net.{name}", module, attribute, part, count))
    return found


@torch.no_grad()
def initialize(host: Any, parts: Any, seed: int) -> dict[Stage, Scope]:
    """As denoise.model.initialize.initialize, for a network that is not ours; None for an initializer leaves a part.

    A layer that starts at zero as it is built starts there still with `zero_output`. Weight normalization comes last.
    """
    stages: dict[Stage, set[str]] = {}
    known = host.layers()
    zeroed = {layer.module for layer in known if parts.zero_output and not layer.weight.any()}
    for layer in known:
        part = chosen(parts, layer.part)
        if part.initializer is None:
            continue
        bias = getattr(layer.module, BIASES.get(layer.attribute, ""), None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
        if layer.module in zeroed:
            continue
        activation = part.activation or host.own_activation(layer.part)
        with seeded(seed, f"init/{layer.name}.{layer.attribute}"):
            for weight in _matrices(layer):
                stage = part.initializer(weight, activation())
                if stage is not None:
                    stages.setdefault(stage, set()).add(layer.part)
    for layer in known:
        if layer.normalizable:
            with seeded(seed, f"weight_normalization/{layer.name}"):
                chosen(parts, layer.part).weight_normalization(layer.module)
    return {
        stage: Scope({name: m for name, m in host.named_modules() if host.part_of(m) in names}, zeroed)
        for stage, names in stages.items()
    }


def _matrices(layer: ForeignLayer) -> Iterator[Tensor]:
    """A layer's weight as matrices or kernels (out, in, ...), written back when they are done with."""
    if layer.attribute == "in_proj_weight":
        yield from layer.weight.data.chunk(3)
    elif isinstance(layer.module, TRANSPOSED):
        weight = layer.weight.data.transpose(0, 1).contiguous()
        yield weight
        layer.weight.data.copy_(weight.transpose(0, 1))
    else:
        yield layer.weight.data

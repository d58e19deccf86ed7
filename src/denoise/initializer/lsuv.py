"""Layer-sequential unit variance: an initializer that looks at the first batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from denoise.initializer.stage import Report, Scope

TOLERANCE = 0.01
ITERATIONS = 10


def lsuv(tensor: Tensor, activation: nn.Module) -> "UnitVariance":
    """w = Q, orthonormal; then each layer's w / sqrt(Var(w x)). Mishkin & Matas 2016, arXiv:1511.06422.

    Ours measures the training's own first batch, with layers in training mode, and leaves out what starts at zero.
    """
    nn.init.orthogonal_(tensor)
    return UnitVariance()


@dataclass(frozen=True)
class UnitVariance:
    """Scale the layers, in the order in which they run, until the output of each has a variance of 1."""

    needs_batch: bool = True

    @torch.no_grad()
    def finish(self, denoiser: Any, batch: tuple[Any, ...], scope: Scope) -> Report:
        """One pass: each layer is scaled when it is reached, and what it then says goes on to the next one."""
        layers = {n: m for n, m in scope.modules.items() if isinstance(m, nn.Linear | nn.Conv2d)}
        taken: list[str] = []
        left: dict[str, str] = {}
        scaled = {name: layer for name, layer in layers.items() if layer not in scope.zeroed}

        def reached(name: str) -> Any:
            def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
                if name in taken or name in left:
                    return None
                output, reason = to_unit_variance(layer, inputs, output)
                if reason:
                    left[name] = reason
                else:
                    taken.append(name)
                return output

            return hook

        hooks = [layer.register_forward_hook(reached(name)) for name, layer in scaled.items()]
        with training(denoiser):
            denoiser.loss(*batch)
        for hook in hooks:
            hook.remove()
        left |= {name: "does not run" for name in scaled if name not in taken and name not in left}
        summary = f"lsuv: {len(taken)} layers have an output variance of 1 on the first batch, {len(left)} have not"
        summary += f"; {len(layers) - len(scaled)} start at zero" if len(layers) > len(scaled) else ""
        return Report(summary, taken, sorted(left.items()))


def to_unit_variance(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> tuple[Tensor, str]:
    """Scale a layer's weight; its new output, and why it has no unit variance ("": it has).

    Under a weight normalization the weight is assigned and not changed in place: g and v follow. Where that fixes
    the length (spectral_norm), scaling acts on nothing; the layer is put back as it was.
    """
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    variance = output.double().var(correction=0).item()
    for _ in range(ITERATIONS):
        if abs(variance - 1) <= TOLERANCE:
            return output, ""
        if not 0 < variance < float("inf"):
            return output, f"its output has a variance of {variance:.3g}"
        last = variance
        if set_weight(layer, layer.weight / variance**0.5):
            output = layer.forward(*inputs)
            variance = output.double().var(correction=0).item()
        if not abs(variance - 1) < abs(last - 1):
            break
    if abs(variance - 1) <= TOLERANCE:
        return output, ""
    layer.load_state_dict(before)
    return layer.forward(*inputs), f"its weight normalization fixes its length; variance {last:.3g}"


def set_weight(layer: nn.Module, weight: Tensor) -> bool:
    """Assign the weight that a layer uses; False where its weight normalization takes none."""
    if not is_parametrized(layer, "weight"):
        layer.weight.copy_(weight)  # type: ignore[operator]
        return True
    try:
        layer.weight = weight
    except (RuntimeError, NotImplementedError):
        return False
    return True


@contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """Run as in a training step, and put back the mode and all buffers (running averages) after it."""
    mode, buffers = model.training, [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.train()
    try:
        yield
    finally:
        model.train(mode)
        for buffer, before in buffers:
            buffer.copy_(before)

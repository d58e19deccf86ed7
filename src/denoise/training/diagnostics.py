"""What flows through the layers: signal, dead and saturated units, gradients, the first layer that went wrong."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from denoise.metrics import DEAD, GRADIENT_RANGE, SATURATED

Watch = Callable[[str, nn.Module, Tensor, Tensor], None]
FLAT = 0.01  # a slope below this hands on less than a hundredth of a gradient
FIGURES = ("mean", "variance", "dead_fraction", "saturated_fraction")
SUMMARY = (DEAD, SATURATED, GRADIENT_RANGE)  # of a look, what is a metric; the rest goes into one file
MOST_LOOKS = 200  # in that file


@contextmanager
def watching(model: nn.Module, wanted: Callable[[nn.Module], bool], watch: Watch) -> Iterator[None]:
    """Call watch(name, module, input, output) at each forward pass of the wanted modules; the hooks go at the end.

    The input is a copy from before the pass, without a gradient: a module may write its output over its input.
    """
    handles: list[RemovableHandle] = []
    entered: list[Tensor | None] = []  # the inputs of those that run, the innermost last

    def before(m: nn.Module, args: tuple[object, ...]) -> None:
        entered.append(args[0].detach().clone() if args and isinstance(args[0], Tensor) else None)

    for name, module in model.named_modules():
        if wanted(module):

            def hook(m: nn.Module, args: tuple[object, ...], output: object, name: str = name) -> None:
                x = entered.pop()
                if isinstance(output, Tensor):
                    watch(name, m, output if x is None else x, output)

            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(hook)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def limit(first: float, factor: float) -> float:
    """What a loss must not exceed: `factor` times the first one, as far above it where that is negative; 0: nothing."""
    return factor * first if first > 0 else first + (factor - 1) * abs(first) if first else float("inf")


def is_activation(module: nn.Module) -> bool:
    """Tell whether the catalogue built this module as an activation."""
    return getattr(module, "kind", None) == "activation"


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module does the work itself."""
    return next(module.children(), None) is None


class LayerFlow:
    """What flows through each activation layer on one batch, in the order in which the layers run.

    mean and variance of the output; dead_fraction: channels that are zero on the whole batch; saturated_fraction:
    entries at which the activation is flat, |f'(x)| < 0.01, so that no gradient passes.
    """

    def __init__(self) -> None:
        self.met: dict[str, Tensor] = {}

    @torch.no_grad()
    def watch(self, name: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        """Take one layer's input and output, (B, C, H, W), (B, T, C) or (B, C)."""
        dims = (0, 2, 3) if output.ndim == 4 else tuple(range(output.ndim - 1))
        variance, mean = torch.var_mean(output.float(), correction=0)
        dead = output.abs().amax(dim=dims).eq(0).float().mean()
        self.met[name] = torch.stack([mean, variance, dead, flat_fraction(module, x)])

    def layers(self) -> dict[str, dict[str, float]]:
        """Each layer's figures by name; one copy from device to host."""
        if not self.met:
            return {}
        rows = torch.stack(list(self.met.values())).tolist()
        return {name: dict(zip(FIGURES, row, strict=True)) for name, row in zip(self.met, rows, strict=True)}

    def metrics(self) -> dict[str, float]:
        """health/<figure>/<layer>, and the mean over the layers of the two fractions."""
        layers = self.layers()
        found = {
            f"health/{figure}": sum(row[figure] for row in layers.values()) / len(layers)
            for figure in ("dead_fraction", "saturated_fraction")
            if layers
        }
        return found | {f"health/{figure}/{name}": v for name, row in layers.items() for figure, v in row.items()}


def flat_fraction(activation: nn.Module, x: Tensor, images: int = 16) -> Tensor:
    """The share of entries with |f'(x)| < 0.01, over the first `images` of a batch."""
    x = x[:images].detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(activation.forward(x.clone()).sum(), x)  # a copy: it may write over its input
    return slope.abs().lt(FLAT).float().mean()


def learned(model: nn.Module) -> dict[str, float]:
    """health/learned/<layer>.<name>: what an activation has learned, a mean where it is one a channel."""
    values = {
        f"health/learned/{name}.{parameter}": tensor.detach().float().mean()
        for name, module in model.named_modules()
        if is_activation(module)
        for parameter, tensor in module.named_parameters()
    }
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True)) if values else {}


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """|g| per linear layer and convolution, of all their weights together, and log10(max / min) over the layers.

    A layer without a gradient, such as one before a branch that starts at zero, is left out of the range. One copy from
    device to host for all of them. Under a weight normalization the gradient is that of the tensor behind the weight:
    the direction v, not the length.
    """
    layers: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            for own, parameter in module.named_parameters():
                if parameter.grad is not None and parameter.ndim >= 2 and not own.endswith("original0"):
                    layers[name] = parameter.grad
    if not layers:
        return {}
    values = torch.stack(torch._foreach_norm(list(layers.values()))).float().cpu()
    metrics = {f"health/gradient_norm/{name}": v for name, v in zip(layers, values.tolist(), strict=True)}
    metrics["health/gradient_norm"] = values.norm().item()
    met = values[values != 0].double()
    if len(met):
        metrics[GRADIENT_RANGE] = (met.max().log10() - met.min().log10()).item()
    return metrics


def summary(look: Mapping[str, float]) -> dict[str, float]:
    """The shares of dead and saturated units and the gradient range, of a look at all layers."""
    return {name: look[name] for name in SUMMARY if name in look}


def content(history: Sequence[tuple[int, Mapping[str, float]]]) -> bytes:
    """The looks at the layers as JSON: {"steps": [...], "layers": {LAYER: {FIGURE: [...]}}, "network": {FIGURE: [...]}}

    A list has a value for each step, null where there was none; what is not finite is "nan", "inf" or "-inf". Of more
    than MOST_LOOKS looks so many are kept, evenly spread, the first and the last among them.
    """
    if len(history) > MOST_LOOKS:
        history = [history[round(i * (len(history) - 1) / (MOST_LOOKS - 1))] for i in range(MOST_LOOKS)]
    found: dict[str, Any] = {"steps": [step for step, _ in history], "layers": {}, "network": {}}
    for name in dict.fromkeys(name for _, look in history for name in look):
        _, figure, *layer = name.split("/", 2)
        node = found["layers"].setdefault(layer[0], {}) if layer else found["network"]
        node[figure] = [_plain(look[name]) if name in look else None for _, look in history]
    return json.dumps(found).encode()


def _plain(value: float) -> float | str:
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


@torch.no_grad()
def fingerprint(model: nn.Module) -> str:
    """16 digits of the sha256 over the shapes and bytes of a model's parameters, whatever their names."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        tensor = parameter.detach().cpu().contiguous()
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()[:16]


def first_bad_layer(model: nn.Module, forward: Callable[[], object]) -> str:
    """Name the first layer whose parameters or output are not finite, else the one with the largest output.

    `forward` runs one pass of `model`; layers are met in the order in which they run.
    """
    met: list[tuple[str, float, bool]] = []

    def watch(name: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        finite = bool(output.isfinite().all()) and all(bool(p.isfinite().all()) for p in module.parameters())
        met.append((name, output.float().abs().max().item() if output.numel() else 0.0, finite))

    with watching(model, is_leaf, watch):
        forward()
    for name, _, finite in met:
        if not finite:
            return name
    return max(met, key=lambda item: item[1])[0] if met else "unknown"

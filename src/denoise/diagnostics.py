"""What flows through the layers: gradient norms, dead units, the first layer that went wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Watch = Callable[[str, nn.Module, Tensor], None]


@contextmanager
def watching(model: nn.Module, wanted: Callable[[nn.Module], bool], watch: Watch) -> Iterator[None]:
    """Call watch(name, module, output) at each forward pass of the wanted modules; the hooks go at the end."""
    handles = []
    for name, module in model.named_modules():
        if wanted(module):

            def hook(m: nn.Module, args: object, output: object, name: str = name) -> None:
                if isinstance(output, Tensor):
                    watch(name, m, output.detach())

            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_activation(module: nn.Module) -> bool:
    """Tell whether the catalogue built this module as an activation."""
    return getattr(module, "kind", None) == "activation"


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module does the work itself."""
    return next(module.children(), None) is None


class DeadUnits:
    """Per activation layer, the fraction of channels that are zero on a whole batch."""

    def __init__(self) -> None:
        self.dead: dict[str, Tensor] = {}

    def watch(self, name: str, module: nn.Module, output: Tensor) -> None:
        """Take one layer's output, (B, C, H, W), (B, T, C) or (B, C)."""
        dims = (0, 2, 3) if output.ndim == 4 else tuple(range(output.ndim - 1))
        self.dead[name] = output.abs().amax(dim=dims).eq(0).float().mean()

    def metrics(self) -> dict[str, float]:
        """health/dead_fraction, their mean, and one per layer."""
        if not self.dead:
            return {}
        values = torch.stack(list(self.dead.values())).tolist()
        each = {f"health/dead_fraction/{name}": v for name, v in zip(self.dead, values, strict=True)}
        return {"health/dead_fraction": sum(values) / len(values), **each}


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """|g| per layer with a weight, of all their weights together, and the ratio first layer to last.

    One copy from device to host for all of them. Under weight normalization the gradient is that of what the
    optimizer holds in the weight's place; a length held apart is left out.
    """
    layers: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is None or parameter.ndim < 2:
            continue
        layer = name.removesuffix(".original1").removesuffix(".original")
        layer = layer.removesuffix(".weight").removesuffix(".parametrizations")
        if not name.endswith("original0"):
            layers[layer] = parameter.grad
    if not layers:
        return {}
    values = torch.stack(torch._foreach_norm(list(layers.values()))).float().cpu()
    metrics = {f"health/gradient_norm/{name}": v for name, v in zip(layers, values.tolist(), strict=True)}
    metrics["health/gradient_norm"] = values.norm().item()
    last = values[-1].item()
    if last > 0:
        metrics["health/gradient_norm_first_to_last"] = values[0].item() / last
    return metrics


@torch.no_grad()
def first_bad_layer(model: nn.Module, forward: Callable[[], object]) -> str:
    """Name the first layer whose parameters or output are not finite, else the one with the largest output.

    `forward` runs one pass of `model`; layers are met in the order in which they run.
    """
    met: list[tuple[str, float, bool]] = []

    def watch(name: str, module: nn.Module, output: Tensor) -> None:
        finite = bool(output.isfinite().all()) and all(bool(p.isfinite().all()) for p in module.parameters())
        met.append((name, output.float().abs().max().item() if output.numel() else 0.0, finite))

    with watching(model, is_leaf, watch):
        forward()
    for name, _, finite in met:
        if not finite:
            return name
    return max(met, key=lambda item: item[1])[0] if met else "unknown"

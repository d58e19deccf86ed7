"""What each option costs and does, by kind: one line of its page, computed from the option itself."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from denoise.config import catalog
from denoise.config.catalog import Entry
from search.catalog_pages.curves import Figures, digits, figures

MEASURED = catalog.CONF.parent / "benchmarks" / "results" / "activations.json"
CHANNELS = 64


def measured(path: Path = MEASURED) -> dict[str, tuple[float, float]]:
    """(nanoseconds, bytes) per element by activation, as the benchmark wrote them; empty where it wrote nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["activations"]
        return {one["activation"]: (float(one["ns"]["ours"]), float(one["bytes"]["ours"])) for one in found}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def activation_numbers(option: str) -> dict[str, str]:
    """The figures of an activation by the names that its page explains."""
    module = catalog.build("activation", option)
    found, cost = _figures(catalog.entry("activation", option).path), measured().get(option)
    ns, kept = map(digits, cost) if cost else ("not measured", "not measured")
    return {
        "bent": digits(found.bent),
        "E[f'^2]": digits(found.slope),
        "flat": f"{100 * found.flat:.1f} %",
        "E[f]": digits(found.mean),
        "E[f^2]": digits(found.second_moment),
        "gain": digits(found.gain) if found.gain else "none",
        "ns": ns,
        "bytes": kept,
        "learned": str(count(module)),
    }


@lru_cache
def _figures(path: Path) -> Figures:
    """Those of the activation with this file; a page asks for them three times."""
    return figures(catalog.build("activation", path.stem))


def _activation_cost(entry: Entry) -> str:
    said = "; ".join(f"{name} {number}" for name, number in activation_numbers(entry.option).items())
    pointwise = _figures(entry.path).pointwise
    note = (
        ""
        if pointwise
        else " It is no function of one element: drawn and measured on an input of mean zero, f' that of the sum."
    )
    return f"{said}.{note}"


def count(module: nn.Module) -> int:
    """How many numbers of a module are learned."""
    return sum(p.numel() for p in module.parameters())


def _normalization_cost(entry: Entry) -> str:
    module = catalog.build("normalization", entry.option, CHANNELS)
    kept = sum(b.numel() for b in module.buffers() if b.is_floating_point())
    also = f", {kept} more kept" if kept else ""
    return f"Numbers learned in a layer of {CHANNELS} channels: {count(module)}{also}."


def _weight_normalization_cost(entry: Entry) -> str:
    layer = nn.Linear(CHANNELS, CHANNELS, bias=False)
    plain = count(layer)
    catalog.build("weight_normalization", entry.option, layer)
    return f"Numbers learned in a layer of {CHANNELS} by {CHANNELS}: {count(layer)} in place of {plain}."


def _feed_forward_cost(entry: Entry) -> str:
    width = 4 * CHANNELS
    module = catalog.build("feed_forward", entry.option, CHANNELS, width, nn.Identity)
    return f"Numbers learned at dim {CHANNELS} and hidden_dim {width}: {count(module)}."


def _optimizer_cost(entry: Entry) -> str:
    weight = nn.Parameter(torch.full((CHANNELS, CHANNELS), 0.5))
    optimizer = catalog.build("optimizer", entry.option, [weight])
    weight.grad = torch.eye(CHANNELS)
    if hasattr(optimizer, "curvature"):  # set by the training, where an optimizer asks for it
        optimizer.curvature = lambda parameters: [torch.ones_like(p) for p in parameters]
    optimizer.step()
    each = sum(map(_elements, optimizer.state.values())) / weight.numel()
    return f"Numbers kept per weight, in a matrix of {CHANNELS} by {CHANNELS}: {digits(each)}."


def _elements(state: Any) -> int:
    """How many elements the tensors in a state have; a single number, such as a count of steps, is none."""
    if isinstance(state, torch.Tensor):
        return state.numel() if state.numel() > 1 else 0
    inside = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return sum(map(_elements, inside))


COST: dict[str, Callable[[Entry], str]] = {
    "activation": _activation_cost,
    "normalization": _normalization_cost,
    "weight_normalization": _weight_normalization_cost,
    "feed_forward": _feed_forward_cost,
    "optimizer": _optimizer_cost,
}

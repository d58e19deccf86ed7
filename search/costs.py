"""What each option costs and does, by kind: one line of its page, computed from the option itself."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from denoise import catalog
from denoise.catalog import Entry
from search.curves import digits, figures

MEASURED = catalog.CONF.parent / "benchmarks" / "results" / "activations.json"
CHANNELS = 64


def measured(path: Path = MEASURED) -> dict[str, Mapping[str, Any]]:
    """The measured cost of each activation, by option; empty where nothing was measured."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {str(row["option"]): row for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def activation_numbers(option: str) -> dict[str, str]:
    """The figures of an activation by the names that its page explains."""
    found = figures(catalog.build("activation", option))
    row = measured().get(option, {})
    cost = [row.get(name) for name in ("ns_per_element", "bytes_per_element")]
    ns, kept = (digits(value) if isinstance(value, int | float) else "not measured" for value in cost)
    module = catalog.build("activation", option)
    module(torch.zeros(1, CHANNELS))
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


def _activation_cost(entry: Entry) -> str:
    said = "; ".join(f"{name} {number}" for name, number in activation_numbers(entry.option).items())
    pointwise = figures(catalog.build("activation", entry.option)).pointwise
    note = "" if pointwise else " It is no function of one element: drawn and measured on an input of mean zero."
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
    optimizer.step()
    kept = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    each = sum(tensor.numel() for tensor in kept if tensor.numel() > 1) / weight.numel()
    return f"Numbers kept per weight, in a matrix of {CHANNELS} by {CHANNELS}: {digits(each)}."


COST: dict[str, Callable[[Entry], str]] = {
    "activation": _activation_cost,
    "normalization": _normalization_cost,
    "weight_normalization": _weight_normalization_cost,
    "feed_forward": _feed_forward_cost,
    "optimizer": _optimizer_cost,
}

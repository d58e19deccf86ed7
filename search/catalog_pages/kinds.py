"""A page per kind, made from the option files: formula, source, parameters, domains, drawings, cost."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from denoise.config import catalog
from denoise.config.catalog import Entry
from search.catalog_pages import evidence
from search.catalog_pages.costs import COST, activation_numbers
from search.catalog_pages.curves import draw_activation, draw_course

FOLDER = Path("docs") / "kinds"
STEPS = 100  # of the training that a learning rate is drawn over

ABOUT = {
    "activation": "The nonlinearity between two layers. Call shape: `() -> Module`; any shape in, the same shape out.",
    "normalization": "What brings features to one scale. Call shape: `(num_channels) -> Module`, for (B, C, H, W) and "
    "(B, T, C) alike. Where it stands is `placement`: pre, post or sandwich.",
    "weight_normalization": "What a layer makes of its weight before it uses it. Call shape: `(layer) -> layer`.",
    "initializer": "Where weights start; biases start at zero. Call shape: `(tensor, activation) -> None`, in place. "
    "It costs nothing in a step.",
    "feed_forward": "The two layers of a transformer block. Call shape: `(dim, hidden_dim, activation) -> Module`.",
    "optimizer": "How a gradient becomes a step. Call shape: `(params) -> Optimizer`. Each has its own domain of `lr`.",
    "lr_schedule": "How the learning rate moves over a training of T steps. Call shape: "
    "`(optimizer, max_steps) -> LRScheduler`. The drawings show lr(t) / lr over t / T. It costs nothing in a step.",
    "denoiser": "What the network predicts, on which noise levels and with which weight it is trained. val/loss is "
    "measured by the ruler, one weight and one set of noise levels for all ([objectives.md](../objectives.md)). "
    "Call shape: `(backbone) -> Denoiser`. It is searched where it is named: `search.kinds.denoiser=all`. "
    "It costs nothing in a step.",
}
CRITERIA = """\
Four things are asked of an activation f: that it bends, that it lets gradients flow, that it keeps the distribution
of what passes, and that it is cheap. As numbers, with z ~ N(0, 1), each option as it starts and in evaluation mode:

- *bent*: the share of f's variance that no straight line explains, 1 - corr(f(z), z)^2; 0 is a linear map
- *E[f'^2]*: what a gradient's square is multiplied with; *flat*: the share of z with |f'(z)| < 0.01
- *E[f]*, *E[f^2]*: mean and second moment of what comes out; *gain*: 1 / sqrt(E[f^2]) in training mode, what
  `gain: auto` puts into the weights so that it comes out as 1
- *ns*, *bytes*: time per element of forward and backward together, memory kept per element for the backward pass, as
  measured by `make bench` on one machine; *learned*: numbers that train, for one channel

The drawings show f (solid) and f' (dashed) in one window, [-4, 4] by [-2, 4], the same for all."""


def own_options(kind: str) -> list[Entry]:
    """The project's own options of a kind, without those of folders that were added."""
    found = [catalog.entry(kind, option) for option in catalog.options(kind)]
    return [entry for entry in found if entry.path.is_relative_to(catalog.CONF)]


def files() -> dict[Path, str]:
    """Every page and drawing by its path in the repository."""
    found: dict[Path, str] = {}
    for kind in catalog.KINDS:
        entries = own_options(kind)
        drawings = {entry.option: draw(entry) for entry in entries if kind in DRAWN}
        found |= {FOLDER / kind / f"{option}.svg": drawing for option, drawing in drawings.items()}
        found[FOLDER / f"{kind}.md"] = page(kind, entries)
    return found


def draw(entry: Entry) -> str:
    """The drawing of an option of a kind that is drawn."""
    return DRAWN[entry.kind](entry)


def page(kind: str, entries: list[Entry]) -> str:
    """The page of a kind: what it is, a table of all options, what trainings say, a section for each."""
    lines = [f"# {kind}", "", f"<!-- made by make catalog from conf/{kind}/ -->", "", ABOUT[kind], ""]
    if kind == "activation":
        lines += [CRITERIA, "", *activation_table(entries), ""]
    lines += evidence.section(kind, evidence.read())
    for entry in entries:
        lines += [*section(entry), ""]
    return "\n".join(lines)


def section(entry: Entry) -> list[str]:
    """One option: drawing, formula, source, code, parameters, cost."""
    kind, option = entry.kind, entry.option
    lines = [f"## {option}", ""]
    if kind in DRAWN:
        lines += [f"![{option}]({kind}/{option}.svg)", ""]
    control = "A control: searched only where it is named, or with `search.controls=true`." if entry.control else ""
    facts = [f"`{entry.formula}`", linked(entry.source), COST[kind](entry) if kind in COST else "", control]
    facts.append(f"`{kind}={option}`, [conf/{kind}/{option}.yaml](../../conf/{kind}/{option}.yaml): `{entry.target}`")
    for fact in facts:
        lines += [fact, ""] if fact else []
    return [*lines, *parameters(entry)]


def parameters(entry: Entry) -> list[str]:
    """A table of the parameters: default, searched domain, what is legal."""
    names = [*entry.parameters, *(name for name in entry.space if name not in entry.parameters)]
    if not names:
        return ["No parameters."]
    rows = ["| parameter | default | searched | legal |", "|---|---|---|---|"]
    for name in names:
        domain = entry.space.get(name)
        cells = (f"`{name}`", shown(value_at(entry.parameters, name)), domain_text(domain), legal(entry, name))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def value_at(content: Any, name: str) -> Any:
    """The value at a dotted path."""
    for part in name.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def shown(value: Any) -> str:
    """A default as the user would type it; a nested component as its call."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{k}={shown(v)}" for k, v in value.items() if k not in ("_target_", *catalog.RESERVED))
        name = str(value.get("_target_", ""))
        return f"{name}({inside})" if name else f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def domain_text(domain: Mapping[str, Any] | None) -> str:
    """A domain in words: 0.1 to 10, log."""
    if domain is None:
        return ""
    if domain["type"] == "categorical":
        return ", ".join(map(shown, domain["choices"]))
    step = f"step {shown(domain['step'])}" if domain.get("step") else ""
    words = (f"{shown(domain['low'])} to {shown(domain['high'])}", "log" if domain.get("log") else "", step)
    return ", ".join(word for word in words if word)


def legal(entry: Entry, name: str) -> str:
    """What may be given at all: the limits, else the domain; words beside it."""
    limits, words = entry.limits.get(name), [str(word) for word in entry.words.get(name, [])]
    if limits == "text":
        numbers = "a word"
    elif limits is not None:
        numbers = f"{shown(limits[0])} or more" if limits[1] >= 1e6 else f"{shown(limits[0])} to {shown(limits[1])}"
        numbers = f"{limits[2]} numbers, each {numbers}" if len(limits) == 3 else numbers
    else:
        numbers = "as searched" if name in entry.space else ""
    return " or ".join(word for word in (numbers, ", ".join(words)) if word)


def linked(source: str) -> str:
    """A source with its arXiv numbers as links."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)


def activation_table(entries: list[Entry]) -> list[str]:
    """All activations in one table of their figures."""
    rows: list[str] = []
    for entry in entries:
        numbers = activation_numbers(entry.option)
        rows = rows or [f"| option | {' | '.join(numbers)} |", "|---" * (1 + len(numbers)) + "|"]
        rows.append(f"| [{entry.option}](#{entry.option}) | {' | '.join(numbers.values())} |")
    return rows


def rates(entry: Entry) -> list[float]:
    """The learning rates of a training with a schedule, its lr being 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = catalog.build("lr_schedule", entry.option, optimizer, STEPS)
    found = []
    for _ in range(STEPS):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return found


DRAWN: dict[str, Callable[[Entry], str]] = {
    "activation": lambda entry: draw_activation(entry.option, catalog.build("activation", entry.option)),
    "lr_schedule": lambda entry: draw_course(entry.option, rates(entry)),
}

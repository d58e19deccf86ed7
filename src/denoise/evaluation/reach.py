"""Where the choices of a config reach its network: what its backbone takes of its parts, and what two of them share.

A look builds the backbone once, without its initialization and without a training.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from denoise.config.legal import brings_its_own
from denoise.config.overrides import RANKS
from denoise.data import images
from denoise.data.images import Images
from denoise.foreign.as_built import is_as_built
from denoise.foreign.sites import Site, of_ours
from denoise.model.block import Part, Parts
from denoise.model.initialize import layers_of, start_at_zero
from denoise.process_state import steady
from denoise.randomness import seeded
from denoise.training.build import build_backbone, build_parts, recipe

TAKEN = ("activation", "normalization", "feed_forward")  # kinds that a backbone takes where it likes
GIVEN = ("weight_normalization", "initializer")  # kinds that come to its layers, and that it may take too
LOOKED_AT = ["seed", "data", "model", "parts", "placement", "dropout", "zero_output", *TAKEN, *GIVEN]  # of a config
WHOLE = ("optimizer", "lr_schedule", "denoiser")  # kinds of the whole network, wherever it has something to train
Place = tuple[str, str]  # a kind and the part that it is chosen for, "" for the whole network


@dataclass(frozen=True)
class Look:
    """A backbone as a config builds it. places: how often each kind is taken for each part; zeroed: what starts at 0.

    present: for a network that is not ours how often a kind of TAKEN runs, whether it can be replaced there or not.

    A kind of TAKEN is counted where its factory is called, one of GIVEN at the layers whose weights are drawn, one of
    WHOLE at the parameters. A choice without a place cannot act.
    """

    backbone: nn.Module
    places: Mapping[Place, int]
    zeroed: frozenset[str]
    present: Mapping[Place, int] = field(default_factory=dict)


class _Counted:
    """A factory that counts its calls."""

    def __init__(self, factory: Callable[..., Any], place: Place, places: Counter[Place]) -> None:
        self.factory, self.place, self.places = factory, place, places

    def __call__(self, *args: Any) -> Any:
        self.places[self.place] += 1
        return self.factory(*args)


@steady()
def look(cfg: DictConfig) -> Look:
    """Build the config's backbone and count. Errors: UserError for a config that cannot be built."""
    if brings_its_own(cfg.model):
        return _of_foreign(cfg)
    data, places = images.load(cfg.data), Counter[Place]()
    with seeded(cfg.seed, "reach"):
        backbone = build_backbone(cfg, data, _counted(build_parts(cfg), places))
        if not all(any(kind == taken for taken, _ in places) for kind in TAKEN):
            _run(cfg, backbone, data)  # it may take a component only when it runs
    zeroed = start_at_zero(backbone, cfg.zero_output)
    for layer, part in layers_of(backbone).values():
        if layer not in zeroed:
            places.update((kind, part) for kind in GIVEN)
    trained = sum(parameter.requires_grad for parameter in backbone.parameters())
    places.update({(kind, ""): trained for kind in WHOLE if trained})
    return Look(backbone, dict(places), frozenset(n for n, module in backbone.named_modules() if module in zeroed))


@steady()
def sites(cfg: DictConfig) -> list[Site]:
    """List the sites of a config's network in the order in which they run. Errors: UserError."""
    with seeded(cfg.seed, "reach"):
        if brings_its_own(cfg.model):
            return recipe(cfg).host(cfg).sites
        data = images.load(cfg.data)
        backbone = build_backbone(cfg, data, build_parts(cfg))
        labels = torch.zeros(2, dtype=torch.int64) if cfg.model.class_conditional else None
        shape = data.images["train"].shape[1:]
        return of_ours(backbone, lambda: backbone(torch.zeros(2, *shape), torch.zeros(2), labels))


def listing(cfg: DictConfig) -> list[str]:
    """The sites of a config's network, a line each, and how many of them options reach. Errors: UserError."""
    found = sites(cfg)
    counts = {kind: [not site.why for site in found if site.kind == kind] for kind in TAKEN}
    reached = ", ".join(f"{kind} {sum(each)} of {len(each)}" for kind, each in counts.items())
    return [*(site.text() for site in found), f"reached: {reached}"]


def differ(one: Look, other: Look) -> bool:
    """Tell whether two networks differ in anything: a layer, a setting, a shape, a first value, what starts at zero.

    What cannot be compared, such as two functions, is taken for different.
    """
    return one.zeroed != other.zeroed or not _same(one.backbone, other.backbone, set())


class Outline(nn.Module):
    """What a config makes of a network that is not ours, as far as choices of its shape go: its settings."""

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.settings = settings


def _of_foreign(cfg: DictConfig) -> Look:
    """Count the sites that surgery reaches; a network is built once for each of its settings."""
    settings: Any = OmegaConf.to_container(cfg.model, resolve=True)
    met = _met(json.dumps([settings, OmegaConf.to_container(cfg.data, resolve=True), cfg.seed], sort_keys=True))
    chosen = [cfg.initializer, *(part.get("initializer") for part in cfg.parts.values())]
    drawn = any(node is not None and not is_as_built(node) for node in chosen)
    return replace(met, backbone=Outline(settings), zeroed=met.zeroed if drawn and cfg.zero_output else frozenset())


@lru_cache(maxsize=64)
def _met(text: str) -> Look:
    model, data, seed = json.loads(text)
    cfg = OmegaConf.create({"model": model, "data": data, "parts": {}, "seed": seed})
    with seeded(seed, "reach"):
        host = recipe(cfg).host(cfg)
    places, present = Counter[Place](), Counter[Place]()
    for site in host.sites:
        present[site.kind, site.part] += 1
        places[site.kind, site.part] += not site.why
    zeroed = set[str]()
    for layer in host.layers():
        places["initializer", layer.part] += 1
        places["weight_normalization", layer.part] += layer.normalizable
        zeroed.update({layer.name} if not layer.weight.any() else ())
    trained = sum(parameter.requires_grad for parameter in host.parameters())
    places.update({(kind, ""): trained for kind in WHOLE if trained and kind not in host.without})
    return Look(
        Outline(None), {place: count for place, count in places.items() if count}, frozenset(zeroed), dict(present)
    )


def _counted(parts: Parts, places: Counter[Place]) -> Parts:
    def of(name: str) -> Part:
        part: Part = getattr(parts, name)
        watched: Any = {kind: _Counted(getattr(part, kind), (kind, name), places) for kind in (*TAKEN, *GIVEN)}
        return replace(part, **watched)

    each: Any = {name: of(name) for name in RANKS}
    return replace(parts, **each)


@torch.no_grad()
def _run(cfg: DictConfig, backbone: nn.Module, data: Images) -> None:
    labels = torch.zeros(1, dtype=torch.int64) if cfg.model.class_conditional else None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of one image; more threads wait for each other beside other processes
    try:
        backbone(torch.zeros(1, *data.shape), torch.zeros(1), labels)
    except Exception:  # what is wrong with it, its training says
        return
    finally:
        torch.set_num_threads(threads)


def _same(one: Any, other: Any, seen: set[tuple[int, int]]) -> bool:
    if type(one) is not type(other):
        return False
    if (id(one), id(other)) in seen or isinstance(one, _Counted):
        return True
    if isinstance(one, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, nn.Module):  # which others may hold too; it lives as long as the look, and so its id is its own
        seen.add((id(one), id(other)))
        one, other = ({name: value for name, value in vars(of).items() if name != "kind"} for of in (one, other))
    if isinstance(one, Part | Parts):
        one, other = vars(one), vars(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key], seen) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_same(a, b, seen) for a, b in zip(one, other, strict=True))
    return bool(one == other)

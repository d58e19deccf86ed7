"""Surgery: put a catalogue's components at the sites of any model."""

import copy
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from denoise.foreign.census import Call, Census
from denoise.foreign.functions import ACTIVATIONS
from denoise.foreign.rerouting import PerCall, Put, lead, watch
from denoise.foreign.sites import Site, find
from denoise.model.block import chosen

KINDS = ("feed_forward", "normalization", "activation")  # in this order: a feed-forward takes what stands within it
STAYS = "stays as built"
SEVERAL = "is called with several numbers of channels from one place"
Places = dict[nn.Module, list[tuple[nn.Module, str]]]


@dataclass
class Operation:
    """What surgery did.

    put: the sites that have a component now, left: the others, each with its `why`; modules: what was put in.
    """

    put: list[Site] = field(default_factory=list)
    left: list[Site] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)

    def text(self) -> str:
        """Every site, a line each."""
        return "\n".join([*(site.text() for site in (*self.put, *self.left)), ""])


def operate(model: nn.Module, run: Callable[[], Any], parts: Any, kinds: Iterable[str] = KINDS) -> Operation:
    """Put the components of `parts` at a model's sites, in place.

    - run: passes a batch through the model.
    - parts: has `residual`, `transformer` and `embedding`, each with a factory for each of the kinds, or None where the
      model's own stays; `named` has those of parts that a pattern of paths makes (denoise.model.block.Parts).
    """
    return put(model, *find(model, run), parts, kinds)


def put(model: nn.Module, sites: list[Site], taken: Census, parts: Any, kinds: Iterable[str] = KINDS) -> Operation:
    """Put the components of `parts` at sites that were found in a model, in place."""
    surgeon = _Surgeon(model, sites, parts)
    for kind in (kind for kind in KINDS if kind in kinds):
        surgeon.put_in(kind)
    surgeon.separate(taken)
    done, seen = surgeon.done, {id(site.call) for site in surgeon.done.put} | surgeon.refused
    for site in sites:
        within = site.call is not None and not surgeon.gone.isdisjoint(site.call.above)
        if not within and (site.call is None or id(site.call) not in seen):
            done.left.append(replace(site, why=site.why or STAYS))
    return done


class Called(nn.Module):
    """A function of torch.nn.functional as a module, with the settings that it was called with."""

    def __init__(self, function: str, settings: dict[str, Any]) -> None:
        super().__init__()
        self.function, self.settings = function, settings

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = getattr(functional, self.function)(x, **self.settings)
        return y


def own_activation(sites: Iterable[Site]) -> Callable[..., nn.Module]:
    """A factory of the activation that a model has at the first of the sites that can be replaced, else of nn.GELU."""
    for site in sites:
        if site.kind == "activation" and not site.why and site.call is not None:
            what, settings = site.call.what, site.call.settings
            if isinstance(what, nn.Module):
                return lambda *channels: copy.deepcopy(what)
            return lambda *channels: Called(what, settings)
    return lambda *channels: nn.GELU()


class _Surgeon:
    """One surgery. gone: the modules within feed-forwards that were replaced; refused: calls that could not be led."""

    def __init__(self, model: nn.Module, sites: list[Site], parts: Any) -> None:
        self.model, self.sites, self.parts = model, sites, parts
        self.places = _places(model)
        self.done = Operation()
        self.gone: set[nn.Module] = set()
        self.refused: set[int] = set()
        self.led: set[nn.Module] = set()

    def put_in(self, kind: str) -> None:
        """Put a kind's components at its sites."""
        groups: dict[Any, list[Site]] = {}
        for site in self.sites:
            call = site.call
            if site.kind != kind or site.why or call is None or getattr(chosen(self.parts, site.part), kind) is None:
                continue
            if self.gone.isdisjoint(call.above):
                own = isinstance(call.what, nn.Module)
                groups.setdefault(call.what if own else (call.owner, call.what, call.ordinal), []).append(site)
        for key, group in groups.items():
            if isinstance(key, nn.Module):
                self.put_module(key, group)
                self.gone.update(key.modules() if kind == "feed_forward" else ())
            elif (made := self.made(group)) is not None:
                lead(key[0], key[1], key[2], made)
                self.led.add(key[0])

    def put_module(self, module: nn.Module, sites: list[Site]) -> None:
        """Replace a module where it stands: in each module that holds it by its own, one for each call made there.

        One that has parameters has the same ones at every call, and so has what replaces it. Calls that stand in a part
        that is left as built keep the module.
        """
        holders: dict[nn.Module, list[str]] = {}
        for holder, name in self.places[module]:
            holders.setdefault(holder, []).append(name)
        first = next(iter(holders))
        for holder, names in holders.items():
            elsewhere = holders if holder is first else None
            here = [(s, c) for s, c in _called(sites, module) if _is_of(c, holder, elsewhere)]
            one = sites[0].kind == "feed_forward" or next(module.parameters(recurse=False), None) is not None
            numbers: dict[int, list[Site]] = {}
            for site, call in here:
                numbers.setdefault(0 if one else call.ordinal, []).append(site)
            made = {number: each for number, group in numbers.items() if (each := self.made(group)) is not None}
            if not made or len(made) < len(numbers):
                continue
            stay = {c.ordinal: module for _, c in _called(self.sites, module) if _is_of(c, holder, elsewhere)}
            calls = stay | {call.ordinal: made[0 if one else call.ordinal] for _, call in here}
            by_call = [calls[ordinal] for ordinal in sorted(calls)]
            new = by_call[0] if len(set(by_call)) == 1 else PerCall(by_call, f"{sites[0].module}/{names[0]}")
            if isinstance(new, PerCall):
                for call in [call for _, call in here]:
                    watch(call.owner) if call.owner is not None else None
            for name in names:
                setattr(holder, name, new)

    def made(self, sites: list[Site]) -> nn.Module | None:
        """What stands at the calls of one place from now on; None where they are of several numbers of channels."""
        site, module = sites[0], sites[0].call.what if sites[0].call is not None else None
        if len({(s.shape[s.axis], len(s.shape), s.axis) for s in sites}) > 1:
            self.refused.update(id(s.call) for s in sites)
            self.done.left += [replace(s, why=SEVERAL) for s in sites]
            return None
        factory, channels = getattr(chosen(self.parts, site.part), site.kind), site.shape[site.axis]
        if site.kind == "feed_forward":
            activation = chosen(self.parts, site.part).activation or own_activation(self.within(module))
            new = factory(channels, site.width, activation)
        else:
            new = factory(channels)
        if site.kind == "normalization" and not [*module.parameters()] if isinstance(module, nn.Module) else False:
            for name, parameter in new.named_parameters():  # a modulation follows: a gain would be one more
                parameter.requires_grad_(name.rpartition(".")[2] not in ("weight", "bias"))
        new = Put(new, site.axis, len(site.shape), two=site.kind == "activation")
        new.train(self.model.training)
        self.done.put += sites
        self.done.modules.append(new)
        return new

    def within(self, module: Any) -> Iterator[Site]:
        """The sites within a module."""
        return (site for site in self.sites if site.call is not None and module in site.call.above)

    def separate(self, taken: Census) -> None:
        """Have each module that calls a function itself counted apart from one above it that is led elsewhere."""
        functions = [operator.function for operator in taken.operators if operator.function is not None]
        callers = {call.owner for call in functions if call.what in ACTIVATIONS.values()}
        for owner in self.led:
            for module in owner.modules():
                if module in callers:
                    watch(module)


def _called(sites: Iterable[Site], module: nn.Module) -> list[tuple[Site, Call]]:
    """The sites at which a module is called, with the call."""
    return [(site, site.call) for site in sites if site.call is not None and site.call.what is module]


def _is_of(call: Call, holder: nn.Module, elsewhere: Container[nn.Module] | None) -> bool:
    """Whether a call is made by this holder of a module, or, of the first one, by what holds it not."""
    return call.owner is holder or (elsewhere is not None and call.owner not in elsewhere)


def _places(model: nn.Module) -> Places:
    """Where each module stands, under its other names too: the modules that hold it, and by which name."""
    found: Places = {}
    for name, module in model.named_modules(remove_duplicate=False):
        above, _, last = name.rpartition(".")
        if name and (place := (model.get_submodule(above), last)) not in found.setdefault(module, []):
            found[module].append(place)
    return found

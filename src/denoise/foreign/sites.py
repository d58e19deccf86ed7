"""The sites of a model: where activations, normalizations and feed-forwards run, and what of it can be replaced."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from denoise.errors import UserError
from denoise.foreign.behavior import feed_forward_width, is_attention, is_elementwise, is_gate, norm_axis
from denoise.foreign.census import Call, Census, Operator, Shape, census
from denoise.foreign.functions import ACTIVATION_CLASSES, ACTIVATIONS, GATE_CLASSES
from denoise.model.initialize import owners

GATE = "a gate, or an output in a range: not an activation"
ATTENTION = "stands inside attention"
BY_HAND = "a formula by hand, or a fused or compiled function: neither a module nor one call"
CUSTOM = "inside a torch.autograd.Function"


@dataclass(frozen=True)
class Site:
    """One place in a model, as it runs. why: what keeps it from being replaced, "" where nothing does.

    what: the class, function or operator; module: the path of the module, or of that in whose forward it is called;
    owner: the class in whose forward it is called; line: file:line of the call; call: by which it is replaced.
    """

    kind: str
    what: str
    module: str
    owner: str
    line: str
    shape: Shape
    part: str
    why: str = ""
    call: Call | None = field(default=None, repr=False, compare=False)
    axis: int = 1
    width: int = 0

    def text(self) -> str:
        """The site in a line."""
        shape = "x".join(map(str, self.shape))
        said = f"left: {self.why}" if self.why else "reached"
        place = f"{self.module or 'the model'} ({self.owner}, {self.line})"
        return f"{self.kind} {self.what} at {place} {shape} {self.part}: {said}"


def find(model: nn.Module, run: Callable[[], Any]) -> tuple[list[Site], Census]:
    """Run a model once and list its sites, in the order in which they run."""
    if any(isinstance(m, nn.TransformerEncoderLayer | nn.MultiheadAttention) for m in model.modules()):
        torch.backends.mha.set_fastpath_enabled(False)  # in evaluation it would pass by what is put in
    taken = census(model, run)
    finder = _Finder(model)
    met: dict[int, Site] = {}
    for operator in taken.operators:
        site, key = finder.site(operator)
        met.setdefault(key, site)
    forwards = [found for call in taken.calls if (found := finder.feed_forward(call)) is not None]
    return [*met.values(), *_outermost(forwards)], taken


def of_ours(backbone: nn.Module, run: Callable[[], Any]) -> list[Site]:
    """The sites of a backbone that takes its components from factories: where one of them runs."""
    known = owners(backbone)
    names = {module: (name, own_part) for name, (module, own_part) in known.items()}
    return [
        Site(
            str(module.kind),
            type(module).__name__,
            *names[module][:1],
            _class(c.owner),
            c.line,
            c.shape,
            names[module][1],
        )
        for c in census(backbone, run).calls
        if isinstance(module := c.what, nn.Module) and isinstance(getattr(module, "kind", None), str)
    ]


class _Finder:
    """Tells of what runs what it is; a module is asked once."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.held: dict[tuple[nn.Module | None, nn.Module], str] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self.held.setdefault((model.get_submodule(name.rpartition(".")[0]), module), name)
        self.known: dict[tuple[Any, ...], Any] = {}

    def path(self, call: Call) -> str:
        """The path of a module that is called: where its caller holds it, else the first."""
        assert isinstance(call.what, nn.Module)
        return self.held.get((call.owner, call.what), self.names[call.what])

    def ask(self, question: Callable[..., Any], module: nn.Module, *shape: Shape) -> Any:
        key = (question.__name__, id(module), *shape)
        if key not in self.known:
            self.known[key] = question(module, *shape)
        return self.known[key]

    def site(self, operator: Operator) -> tuple[Site, int]:
        """The site that an operator belongs to, and a number that the operators of one site share."""
        inner = operator.above[-1] if operator.above else None
        if inner is not None and isinstance(inner.what, nn.Module) and (found := self.module(operator.kind, inner)):
            return found, id(inner)
        call, kind = operator.function, operator.kind
        if call is not None and kind == "activation":
            at = self.names.get(call.owner, "") if call.owner is not None else ""
            made = Site(
                kind,
                f"F.{call.what}",
                at,
                _class(call.owner),
                call.line,
                call.shape,
                part(call),
                call=call,
                axis=_axis(call),
            )
            return replace(made, why=self.why_not(call, str(call.what))), id(call)
        owner = inner.what if inner is not None and isinstance(inner.what, nn.Module) else None
        what = f"F.{call.what}" if call is not None else f"aten::{operator.name}"
        why = BY_HAND if call is None else f"called as a function: give it a module, such as {_module_for(call)}"
        why = BY_HAND if call is not None and call.what == "rsqrt" else why
        shape = operator.shape
        at = self.names.get(owner, "") if owner is not None else ""
        made = Site(kind, what, at, _class(owner), operator.line, shape, by_rank(shape), why)
        return made, id(operator)

    def module(self, kind: str, call: Call) -> Site | None:
        """The site that a module itself is."""
        module = call.what
        assert isinstance(module, nn.Module)
        known: tuple[type[nn.Module], ...]
        if kind == "activation":
            known = ACTIVATION_CLASSES + GATE_CLASSES
            if not isinstance(module, known) and not self.ask(is_elementwise, module):
                return None
            axis, why = _axis(call), self.why_not(call, module)
        else:
            found = self.ask(norm_axis, module, call.shape)
            if found is None:
                return None
            axis, why = found, _why_not_norm(module)
        if not why and call.owner is None:
            why = "is the model itself"
        if not why and isinstance(module, torch.jit.ScriptModule):
            why = "is TorchScript"
        return Site(
            kind,
            type(module).__name__,
            self.path(call),
            _class(call.owner),
            call.line,
            call.shape,
            part(call),
            why,
            call,
            axis,
        )

    def why_not(self, call: Call, what: nn.Module | str) -> str:
        """What keeps an activation from being replaced."""
        if isinstance(what, str):
            gate = what not in ACTIVATIONS.values() and not call.in_place
        else:
            gate = isinstance(what, GATE_CLASSES) and not isinstance(what, ACTIVATION_CLASSES)
            gate = gate or (not isinstance(what, ACTIVATION_CLASSES) and self.ask(is_gate, what))
        if gate:
            return GATE
        if any(self.ask(is_attention, module) for module in call.above):
            return ATTENTION
        if call.custom:
            return CUSTOM
        if call.in_place:
            return "called in place: its result may not be what is used"
        if isinstance(what, str) and (call.owner is None or isinstance(call.owner, nn.Sequential | nn.ModuleList)):
            return "called outside a module of its own"
        owner = call.owner
        if owner is not None and "forward" in vars(owner):
            return "the forward of its module was replaced on the instance"
        return "" if not isinstance(owner, torch.jit.ScriptModule) else "is TorchScript"

    def feed_forward(self, call: Call) -> Site | None:
        """The site of a module that is a feed-forward."""
        module = call.what
        if not isinstance(module, nn.Module) or call.owner is None or call.shape != call.given or len(call.shape) != 3:
            return None
        width = self.ask(feed_forward_width, module, call.shape)
        if width is None:
            return None
        name, kind = type(module).__name__, "feed_forward"
        return Site(
            kind, name, self.path(call), _class(call.owner), call.line, call.shape, "transformer", "", call, 2, width
        )


def named(path: str, patterns: Mapping[str, Sequence[str]]) -> str:
    """The part with a pattern that a module's path matches; "" where none does."""
    return next((name for name, each in patterns.items() if any(fnmatchcase(path, p) for p in each)), "")


def check_patterns(patterns: Mapping[str, Sequence[str]], paths: Iterable[str]) -> None:
    """Refuse a pattern that matches no path, and two parts that claim one. Errors: UserError."""
    paths = list(dict.fromkeys(paths))
    for path in paths:
        claims = [(f"model.parts.{n}={p}") for n, each in patterns.items() for p in each if fnmatchcase(path, p)]
        if len({claim.partition("=")[0] for claim in claims}) > 1:
            raise UserError(f"{' and '.join(claims)}: both claim {path or 'the model'}; a site has one part")
    for name, each in patterns.items():
        for pattern in each:
            if not any(fnmatchcase(path, pattern) for path in paths):
                near = difflib.get_close_matches(pattern, paths, n=1, cutoff=0.3) or paths[:1]
                such = f", such as {near[0]}" if near else ""
                raise UserError(
                    f"model.parts.{name}={pattern}: matches no site's path{such}; the verb sites lists them"
                )


def part(call: Call) -> str:
    """The part that a call stands in: by the rank of what flows, and where there is attention, transformer."""
    return "transformer" if any(map(is_attention, call.above)) else by_rank(call.shape)


def by_rank(shape: Shape) -> str:
    """The part of what flows, by its rank: 4 residual, 3 transformer, 2 and below embedding."""
    return {0: "embedding", 1: "embedding", 2: "embedding", 3: "transformer"}.get(len(shape), "residual")


def _axis(call: Call) -> int:
    """The axis of an activation's channels: what made its input says it; else 1 for maps and the last for tokens."""
    return call.axis if call.axis is not None else 1 if len(call.shape) in (2, 4, 5) else max(len(call.shape) - 1, 0)


def _why_not_norm(module: nn.Module) -> str:
    shape = getattr(module, "normalized_shape", ())
    return "normalizes over more than one axis" if isinstance(shape, Sequence) and len(shape) > 1 else ""


def _module_for(call: Call) -> str:
    names = {"group_norm": "GroupNorm", "layer_norm": "LayerNorm", "rms_norm": "RMSNorm", "batch_norm": "BatchNorm2d"}
    return f"nn.{names.get(str(call.what), 'GroupNorm')}"


def _class(module: nn.Module | None) -> str:
    return "" if module is None else type(module).__name__


def _outermost(sites: Sequence[Site]) -> list[Site]:
    """Of feed-forwards within each other the outer ones."""
    paths = [site.module for site in sites]
    return [site for site in sites if not any(site.module.startswith(f"{path}.") for path in paths)]

"""The host: any torch.nn.Module as a backbone of this project's."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from denoise.config import catalog
from denoise.config.legal import named_parts
from denoise.config.overrides import RANKS
from denoise.errors import UserError, choose
from denoise.fault import line
from denoise.foreign import layers as of_layers
from denoise.foreign.arguments import Arguments, arguments, ladder, read, step_of
from denoise.foreign.census import Census, Shape
from denoise.foreign.operate import Operation, own_activation, put
from denoise.foreign.sites import Site, by_rank, check_patterns, find, named
from denoise.initializer.stage import Scope, Stage
from denoise.process_state import steady
from denoise.randomness import Stochastic, of_part, seeded, stream

TIMES = ("t1000", "t01", "c_noise", "sigma")
SETTINGS = ("call", "returns", "time", "parts", "class_conditional")  # of a model's config, that are not the network's


class Host(Stochastic):
    """F(x; c_noise, labels) of a network that knows nothing of this project: (B, C, H, W), (B,), (B,) -> (B, C, H, W).

    The noise level is told as `time` says, from sigma = exp(4 c_noise):
    - t1000: the step of the DDPM's ladder that has this sigma, 0 to 999.
    - t01: sigma / (1 + sigma), the time of a flow.
    - c_noise, sigma: as they are.
    `parts`: names, each with patterns of module paths; a site whose path matches belongs to that part, all others to
    that of their rank. `conditions`: what else the data have, of two images; an argument of such a name is given it.
    Of an output of 2 C channels (a learned variance) the first C are taken. What the network draws in training comes
    from the stream (seed, "layer/..." , step): two forwards of one step draw the same.
    """

    foreign = True  # its parameters are grouped by the layers that own them
    without: tuple[str, ...] = ()  # kinds of a whole network that do not act on this one
    steps: Tensor

    def __init__(
        self,
        net: nn.Module,
        shape: Shape,
        num_classes: int = 0,
        call: Any = "auto",
        returns: Any = "auto",
        time: str = "t1000",
        parts: Any = None,
        conditions: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(net, nn.Module):
            raise UserError(f"model: is a {type(net).__name__}; it must be a torch.nn.Module")
        if next(net.parameters(), None) is None:
            raise UserError(f"model: {type(net).__name__} has no parameters, so there is nothing to train")
        if time not in TIMES:
            raise UserError(f"model.time={time}: unknown; {choose(str(time), TIMES)}")
        self.net, self.time, self.channels = net, time, shape[0]
        self.returns = "[0]" if isinstance(returns, list | tuple) and list(returns) == [0] else str(returns)
        self.arguments: Arguments = arguments(net, call, conditions or {})
        self.conditions = tuple(dict.fromkeys(self.arguments.told.values()))  # of the data, that it takes
        if num_classes and not self.arguments.labels:
            raise UserError(
                f"model.class_conditional=true: {type(net).__name__}.forward takes no labels; say which argument they "
                "are with model.call=IMAGE/TIME/LABELS, or take model.class_conditional=false"
            )
        self.register_buffer("steps", ladder().float(), persistent=False)
        self.whole = False  # whether the network takes steps as whole numbers alone
        self.blank = False  # whether it takes labels even where the data give it none: zeros
        self.draws = False
        self.listing = ""  # of the sites, and what surgery has done at each
        self.named = named_parts({"parts": parts})
        self._meet(shape, num_classes, conditions or {})

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        labels: Tensor | None = None,
        conditions: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        if labels is None and self.blank:
            labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        given = self.arguments.of(x, self.time_of(c_noise), labels, conditions)
        keyed = self.draws and self.training and self.clock is not None
        with self._keyed(x.device) if keyed else nullcontext():
            output = self.net(**given)
        found = read(output, self.returns, type(self.net).__name__)
        return found[:, : self.channels] if found.ndim == 4 and found.shape[1] == 2 * self.channels else found

    def time_of(self, c_noise: Tensor) -> Tensor:
        """What the network is told of the noise: (B,) -> (B,)."""
        if self.time == "t1000":
            step = step_of(4 * c_noise, self.steps)
            return step.round().long() if self.whole else step.to(c_noise.dtype)
        if self.time == "t01":
            return (4 * c_noise).sigmoid()
        return (4 * c_noise).exp() if self.time == "sigma" else c_noise

    def _keyed(self, device: torch.device) -> Any:
        assert self.clock is not None
        return seeded(self.clock.seed, of_part(self.stream_name, self.clock.part), self.clock.step, device)

    def _meet(self, shape: Shape, num_classes: int, conditions: Mapping[str, Tensor]) -> None:
        """Run the network once as it is: find out how it is called, what it returns, and its sites."""
        x = torch.randn(2, *shape, generator=stream(0, "foreign/probe"))
        c_noise, labels = torch.tensor([-0.5, 0.5]), torch.zeros(2, dtype=torch.int64) if num_classes else None
        told = {name: conditions[name] for name in self.conditions}
        self._batch = [x, c_noise, labels, told]
        refusals: list[Exception] = []
        for way in self._ways(labels is None):
            self.whole, self.blank = way
            try:
                self.sites, self.taken = find(self.net, self.run)
                break
            except UserError:
                raise
            except Exception as error:  # whatever a network says of a batch
                refusals.append(error)
        else:
            given = {"images": x} | told
            said = ", ".join(f"{name} of {'x'.join(map(str, each.shape))}" for name, each in given.items())
            raise UserError(f"model: {type(self.net).__name__} refuses {said}: {line(refusals[0])}") from refusals[0]
        self._check(self.taken.output, x)
        self.draws, self.taken.output = self.taken.drew, None
        self._place()

    def _place(self) -> None:
        """Tell each module's part by the rank of what it meets."""
        ranks = {call.what: by_rank(call.shape) for call in reversed(self.taken.calls) if call.shape}
        self.sites = [replace(site, part=named(site.module, self.named) or site.part) for site in self.sites]
        counted = Counter(site.part for site in self.sites if site.part in RANKS) or Counter({"residual": 1})
        self.main = counted.most_common(1)[0][0]
        by_ranks = (self.main, *(name for name in RANKS if counted[name] and name != self.main))
        self.part_names = (*by_ranks, *self.named)
        self._parts: dict[Any, str] = {m: p if p in by_ranks else self.main for m, p in ranks.items()}
        for name, module in self.net.named_modules():
            self._parts |= {module: claimed} if (claimed := named(name, self.named)) else {}
        self._calls: Counter[Any] = Counter(call.what for call in self.taken.calls)
        layers = (layer.name.removeprefix("net.") for layer in self.layers())
        check_patterns(self.named, [*(site.module for site in self.sites), *layers])

    def _ways(self, without: bool) -> list[tuple[bool, bool]]:
        """In which ways to call the network, until it takes a batch: (whole steps, labels of zeros)."""
        blanks = [False, True] if without and self.arguments.labels else [False]
        if (
            without
            and self.arguments.labels
            and inspect.signature(self.net.forward).parameters[self.arguments.labels].default is inspect.Parameter.empty
        ):
            blanks = [True]
        return [(whole, blank) for blank in blanks for whole in ([False, True] if self.time == "t1000" else [False])]

    def _check(self, output: Any, x: Tensor) -> None:
        who = type(self.net).__name__
        if output.shape != x.shape:
            raise UserError(
                f"model: {who} returns {'x'.join(map(str, output.shape))} for images of {'x'.join(map(str, x.shape))}; "
                "it must return as many, of the same size (twice the channels are a learned variance)"
            )
        if not output.isfinite().all():
            raise UserError(f"model: {who} returns NaN or infinity for an image of standard deviation 1")

    def run(self) -> Tensor:
        """Pass the batch that the network was met with."""
        found: Tensor = self(*self._batch)
        return found

    def operate(self, parts: Any) -> Operation:
        """Put the components of `parts` in; what is None there stays as built."""
        done = put(self.net, self.sites, self.taken, parts)
        self.listing = done.text()
        return done

    def reached(self) -> dict[str, float]:
        """The share of the sites of each kind that options reach."""
        kinds = sorted({site.kind for site in self.sites})
        shares = {kind: [not site.why for site in self.sites if site.kind == kind] for kind in kinds}
        return {kind: sum(each) / len(each) for kind, each in shares.items()}

    def layers(self) -> list[of_layers.ForeignLayer]:
        """The layers that an initializer and a weight normalization reach."""
        return of_layers.layers(self.net, self._parts, self.main, self._calls)

    def part_of(self, module: nn.Module) -> str:
        """The part that a module stands in."""
        return self._parts.get(module, self.main)

    def own_activation(self, part: str) -> Callable[..., nn.Module]:
        """A factory of the activation that the network itself has in a part."""
        return own_activation(site for site in self.sites if site.part == part)

    def initialize(self, parts: Any, seed: int) -> dict[Stage, Scope]:
        """Set the weights of the parts that have an initializer, then weight normalizations; the last thing done."""
        stages = of_layers.initialize(self, parts, seed)
        self.sites = [replace(site, call=None) for site in self.sites]  # what was taken out is not kept
        self.taken, self._parts, self._calls = Census(), {}, Counter()
        return stages


def host(
    model: Mapping[str, Any], shape: Shape, num_classes: int, conditions: Mapping[str, Tensor] | None = None
) -> Host:
    """The host of the network that a model's config names.

    shape: (C, H, W) of the data; conditions: theirs, of two images. Errors: UserError.
    """
    settings = {name: model[name] for name in SETTINGS if name in model and name != "class_conditional"}
    own = {str(name): value for name, value in model.items() if name not in (*SETTINGS, "kwargs")}
    size = shape[1] if shape[1] == shape[2] else tuple(shape[1:])
    known = {"image_size": size, "channels": shape[0], "in_channels": shape[0], "out_channels": shape[0]}
    known |= {"num_classes": num_classes} if num_classes else {}
    try:
        with steady():
            if "in_channels" in catalog.takes(str(model["_target_"]), "model"):
                del known["channels"]  # then that is a width
        net = catalog.call(own | dict(model.get("kwargs") or {}), kind="model", optional=known)
    except UserError:
        raise
    except Exception as error:  # whatever a class says of its settings
        raise UserError(f"model {model['_target_']}: {line(error)}") from error
    return Host(net, shape, num_classes, conditions=conditions, **settings)


__all__ = ["Host", "Site", "host"]

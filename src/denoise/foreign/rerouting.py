"""How a call in a model is led to another module: by that module's place, or by the class of the module that calls.

A module whose calls are led elsewhere gets a class of its own below its class: it survives copy.deepcopy, gradient
checkpointing and torch.compile, where a `forward` that is put on an instance keeps that instance's weights. What is
called instead stands in the model's tree, so it is trained, moved and saved with it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from denoise.foreign.functions import ACTIVATIONS

CALLS = "replaced_calls"  # of a module: what is called in place of its functions, by function and number


class Frame:
    """A module that runs, and how often it has called what since it began."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def next(self, name: str) -> int:
        """How often `name` was called before."""
        self.counts[name] += 1
        return self.counts[name] - 1


class _Running(threading.local):
    def __init__(self) -> None:
        self.frames: list[Frame] = []


_running = _Running()


@contextmanager
def _frame() -> Iterator[Frame]:
    frame = Frame()
    _running.frames.append(frame)
    try:
        yield frame
    finally:
        _running.frames.pop()


class _Led(TorchFunctionMode):
    """Leads the functions that a module calls itself, and no other within it, to the modules of its CALLS."""

    def __init__(self, frame: Frame, calls: Any) -> None:
        super().__init__()
        self.frame, self.calls = frame, calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = ACTIVATIONS.get(func)
        if name is not None and _running.frames[-1] is self.frame:
            key = f"{name}_{self.frame.next(name)}"
            if key in self.calls:
                return self.calls[key](args[0] if args else kwargs["input"])
        return func(*args, **kwargs)


def watch(module: nn.Module) -> None:
    """Give a module a class that counts its calls, and leads its functions to what `lead` has put there."""
    if not hasattr(type(module), "watched"):
        module.__class__ = _watched(type(module))  # type: ignore[arg-type]


def lead(module: nn.Module, function: str, ordinal: int, to: nn.Module) -> None:
    """Lead a module's call of a function, by its number in one forward, to another module."""
    watch(module)
    if not hasattr(module, CALLS):
        module.add_module(CALLS, nn.ModuleDict())
    module.get_submodule(CALLS).add_module(f"{function}_{ordinal}", to)


@cache
def _watched(cls: type[nn.Module]) -> type[nn.Module]:
    inner: Callable[..., Any] = cls.forward

    @wraps(inner)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _frame() as frame:
            calls = getattr(self, CALLS, None)
            if calls is None:
                return inner(self, *args, **kwargs)
            with _Led(frame, calls):
                return inner(self, *args, **kwargs)

    names = {"forward": forward, "watched": True, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), names | {"__qualname__": cls.__qualname__})


class Put(nn.Module):
    """A component where another module stood, or for a call: it meets (B, C), (B, T, C) and (B, C, H, W) alone.

    axis: of the channels in what comes, rank: of what comes. Arguments beside the first are the other module's, and
    are not handed on.
    """

    def __init__(self, module: nn.Module, axis: int, rank: int, two: bool = True) -> None:
        super().__init__()
        self.module, self.axis, self.rank, self.two = module, axis, rank, two

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):  # which some models read for the type or the device
            return getattr(super().__getattr__("module"), name, None)
        return super().__getattr__(name)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with _frame():
            if self.rank == 2:
                return self.module(x) if self.two else self.module(x[:, None])[:, 0]
            if self.axis == self.rank - 1:
                return self.module(x if self.rank == 3 else x.reshape(len(x), -1, x.shape[-1])).reshape(x.shape)
            if self.rank == 3:
                return self.module(x.transpose(1, 2)).transpose(1, 2)
            return self.module(x if self.rank == 4 else x.flatten(3)).reshape(x.shape)


class PerCall(nn.Module):
    """A module for each call of one that its owner calls several times: the n-th call goes to the n-th."""

    def __init__(self, calls: list[nn.Module], name: str) -> None:
        super().__init__()
        self.calls, self.name = nn.ModuleList(calls), name

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        number = _running.frames[-1].next(self.name)
        return self.calls[number % len(self.calls)](x)

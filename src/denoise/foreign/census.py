"""A census of a model: every activation and normalization that runs in one forward pass, and from where it is called.

Operators are seen at ATen (TorchDispatchMode): what runs is found there, however it is written. Calls of functions
(TorchFunctionMode) and of modules (hooks) say how it can be replaced.
"""

import inspect
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from denoise.foreign.functions import (
    ACTIVATION_OPERATORS,
    ACTIVATIONS,
    CHANNELS_FIRST,
    CONVOLUTIONS,
    GATES,
    IN_PLACE,
    NORM_OPERATORS,
    NORMS,
)

INSIDE = (str(Path(torch.__file__).parent), str(Path(__file__).parent))  # no call is said to be made there
PRODUCERS = 8  # outputs whose channel axis is remembered
Shape = tuple[int, ...]


@dataclass(eq=False)
class Call:
    """One call of a module or of a function.

    owner: the module in whose forward it is made; ordinal: how often this call of the owner has called it before;
    above: the modules that run, the innermost last; axis: of the channels, where what made the input says it; custom:
    whether it is made inside a torch.autograd.Function.
    """

    what: nn.Module | str
    owner: nn.Module | None
    ordinal: int
    line: str
    shape: Shape
    above: tuple[nn.Module, ...]
    axis: int | None = None
    custom: bool = False
    in_place: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    given: Shape | None = None  # the shape of the output


@dataclass(frozen=True)
class Operator:
    """One activation or normalization that ran: kind, name at ATen, the calls it ran in, the innermost last."""

    kind: str
    name: str
    line: str
    shape: Shape
    above: tuple[Call, ...]
    function: Call | None


@dataclass
class Census:
    """What ran: operators, and calls of modules, in order; drew: whether torch's generator was used."""

    operators: list[Operator] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    drew: bool = False
    output: Any = None


def census(model: nn.Module, run: Callable[[], Any]) -> Census:
    """Run a model once in training mode, without gradients; its modes, buffers and torch's generator are put back."""
    taken = _Taken()
    before = torch.get_rng_state()
    with as_before(model), torch.no_grad(), ExitStack() as stack:
        model.train()
        for module in model.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(taken.enter, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(taken.leave, always_call=True).remove)
        stack.enter_context(_Functions(taken))
        stack.enter_context(_Operators(taken))
        taken.found.output = run()
    taken.found.drew = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    return taken.found


@contextmanager
def as_before(model: nn.Module) -> Iterator[None]:
    """Put back the mode of each module, and all buffers (running averages)."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


class _Taken:
    """The census while it is taken."""

    def __init__(self) -> None:
        self.found = Census()
        self.running: list[tuple[Call, Counter[Any]]] = []
        self.function: Call | None = None
        self.made: deque[tuple[Tensor, int]] = deque(maxlen=PRODUCERS)

    def call(self, what: nn.Module | str, x: Tensor | None) -> Call:
        """Note a call that is made by the module that runs."""
        owner, counts = self.running[-1] if self.running else (None, Counter[Any]())
        key = what if isinstance(what, str) else id(what)
        line, custom = whence()
        shape = () if x is None else tuple(x.shape)
        axis = next((axis for made, axis in reversed(self.made) if made is x), None)
        above = tuple(call.what for call, _ in self.running if isinstance(call.what, nn.Module))
        made_by = owner.what if owner is not None and isinstance(owner.what, nn.Module) else None
        found = Call(what, made_by, counts[key], line, shape, above, axis, custom)
        counts[key] += 1
        return found

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        self.running.append((self.call(module, x), Counter()))
        self.found.calls.append(self.running[-1][0])

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call, _ = self.running.pop()
        if isinstance(output, Tensor):
            call.given = tuple(output.shape)
            if isinstance(module, nn.Linear):
                self.made.append((output, output.ndim - 1))
            elif isinstance(module, CONVOLUTIONS + CHANNELS_FIRST):
                self.made.append((output, 1))


class _Functions(TorchFunctionMode):
    """Notes the functions that are activations or normalizations."""

    def __init__(self, taken: _Taken) -> None:
        super().__init__()
        self.taken = taken

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = next((table[func] for table in (ACTIVATIONS, GATES, IN_PLACE, NORMS) if func in table), None)
        if name is None:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs.get("input")
        call = self.taken.call(name, x if isinstance(x, Tensor) else None)
        call.in_place = func in IN_PLACE
        call.settings = {key: value for key, value in kwargs.items() if key not in ("input", "inplace")}
        outer, self.taken.function = self.taken.function, call
        try:
            return func(*args, **kwargs)
        finally:
            self.taken.function = outer


class _Operators(TorchDispatchMode):
    """Notes the operators that are activations or normalizations."""

    def __init__(self, taken: _Taken) -> None:
        super().__init__()
        self.taken = taken

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        kind = "activation" if name in ACTIVATION_OPERATORS else "normalization" if name in NORM_OPERATORS else ""
        if kind:
            above = tuple(call for call, _ in self.taken.running)
            shape = tuple(args[0].shape)
            self.taken.found.operators.append(Operator(kind, name, whence()[0], shape, above, self.taken.function))
        return func(*args, **(kwargs or {}))


def whence() -> tuple[str, bool]:
    """The file and line that called, outside torch, and whether a torch.autograd.Function lies between."""
    frame, custom = inspect.currentframe(), False
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" and code.co_varnames[:1] not in ((), ("self",)):
            custom = custom or isinstance(frame.f_locals.get(code.co_varnames[0]), FunctionCtx)
        if not code.co_filename.startswith(INSIDE):
            return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{frame.f_lineno}", custom
        frame = frame.f_back
    return "?", custom

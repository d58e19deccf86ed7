"""What code that is not ours may change of its process, put back: what is trained next begins as without it."""

import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from denoise.interruption import ENDS


@contextmanager
def steady() -> Iterator[None]:
    """Put back, after what runs within, the settings of torch and of the process that it has changed.

    Not what it has put into other modules.
    """
    with warnings.catch_warnings():
        before = [read() for read, _ in SETTINGS]
        sys.stdout, sys.stderr = _kept(sys.stdout), _kept(sys.stderr)
        try:
            yield
        finally:
            for (read, write), value in zip(SETTINGS, before, strict=True):
                if read() != value:
                    write(value)


class _Kept:
    """An output that one who has it cannot close for all others."""

    def __init__(self, output: Any) -> None:
        self.output = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.output, name)

    def close(self) -> None:
        self.output.flush()


def _kept(output: Any) -> Any:
    return output if output is None or isinstance(output, _Kept) else _Kept(output)


def _device(before: torch.device) -> None:
    torch.set_default_device(None if before.type == "cpu" else before)


def _subnormals() -> bool:
    return bool(torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1.0)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # removed
        return None


def _go(folder: str | None) -> None:
    with suppress(OSError):
        if folder is not None:
            os.chdir(folder)


def _environment(before: Mapping[str, str]) -> None:
    os.environ.update(before)  # what was added to it stays: libraries do so too


def _outputs(before: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = before


def _hear(before: Mapping[int, Any]) -> None:
    for number, handler in before.items():
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_device, _device),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (_subnormals, lambda before: torch.set_flush_denormal(not before)),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (gc.isenabled, lambda before: gc.enable() if before else gc.disable()),
    (_folder, _go),
    (lambda: dict(os.environ), _environment),
    (lambda: logging.root.manager.disable, logging.disable),
    (lambda: (sys.stdout, sys.stderr), _outputs),
    (lambda: {end: signal.getsignal(end) for end in ENDS}, _hear),
)

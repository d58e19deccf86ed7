"""What this program's process does before its work and after it: load modules, and end."""

import atexit
import gc
import importlib
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from typing import NoReturn

LEARNS = ("denoise.train", "lightning.pytorch")  # what takes seconds to import, by what it is for
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HURRY_SECONDS = 3.0
TRACKS = ("mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store")


def load(*modules: str) -> None:
    """Import modules with no garbage collections meanwhile, and leave what they hold out of all later ones.

    While torch, Lightning and MLflow are imported, collections take a quarter of the time and find nothing.
    """
    missing = [name for name in modules if name not in sys.modules]
    if not missing:
        return
    gc.disable()
    try:
        for name in missing:
            importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def interruptible() -> None:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: raise KeyboardInterrupt, so that what is open is closed.

    Only the first one does: a terminal interrupts a process and all that it has started, which are told by their
    starter too. Another one after HURRY_SECONDS ends the process at once. A signal that is ignored (nohup) stays so.
    """
    for each in ENDS:
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    for each in ENDS:
        signal.signal(each, partial(_again, time.monotonic()))
    raise KeyboardInterrupt


def _again(first: float, number: int, frame: object) -> None:
    if time.monotonic() - first > HURRY_SECONDS:
        os._exit(130)


def leave(status: int) -> NoReturn:
    """End with this exit status, without taking apart a million objects first: that is one to three seconds.

    What was said is written out; where it cannot be (a full disk), 0 becomes 1.
    """
    atexit._run_exitfuncs()
    try:
        if sys.stdout is not None:  # >&-
            sys.stdout.flush()
    except BrokenPipeError:
        pass  # who read has seen enough
    except OSError as error:
        print(f"what was said cannot be written: {error.strerror}", file=sys.stderr)
        status = status or 1
    with suppress(OSError, AttributeError):
        sys.stderr.flush()
    os._exit(status)

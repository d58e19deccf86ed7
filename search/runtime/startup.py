"""What this program's process does before its work and after it: load modules, and end."""

import atexit
import gc
import importlib
import os
import sys
from contextlib import suppress
from typing import NoReturn

LEARNS = ("denoise.training.train", "lightning.pytorch")  # what takes seconds to import, by what it is for
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
    except (OSError, ValueError) as error:  # ValueError: a component has closed it
        print(f"what was said cannot be written: {getattr(error, 'strerror', error)}", file=sys.stderr)
        status = status or 1
    with suppress(OSError, AttributeError):
        sys.stderr.flush()
    os._exit(status)

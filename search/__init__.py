"""Search over the catalogue of components: Optuna proposes, denoise trains, MLflow remembers."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"  # the one place: the package's metadata, --version and the image's label are read from here

_HOME = {"results": "search.notebook", "run": "search.notebook"}  # what Python takes from here, and where it lies


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

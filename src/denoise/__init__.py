"""A diffusion denoiser whose every component is an option, and the training of one of its configs."""

from importlib import import_module
from typing import Any

_HOME = {  # what Python takes from here, and where it lies: torch is imported only with what needs it
    "options": "denoise.config.catalog",
    "build": "denoise.config.catalog",
    "train": "denoise.training.train",
    "apply": "denoise.inference.apply",
    "make_optimizer": "denoise.inference.apply",
    "load": "denoise.inference.load",
    "sample": "denoise.inference.load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'denoise' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

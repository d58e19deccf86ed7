"""Which accelerator a training runs on. Light: nothing of it imports Lightning."""

import torch

ACCELERATORS = ("auto", "cpu", "gpu")


def accelerator(name: str) -> str:
    """The accelerator that `auto` means here."""
    return ("gpu" if torch.cuda.is_available() else "cpu") if name == "auto" else name

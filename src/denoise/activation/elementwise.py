"""What activations with own maths have in common."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.errors import UserError
from denoise.kernels.recompute import Recomputed


class Elementwise(Recomputed):
    """f(x; learned) of each number by itself."""


def positive(start: float, name: str) -> nn.Parameter:
    """Make the raw form of a learned number above zero, softplus(raw) = start. Errors: UserError for 0 or less."""
    if not start > 0:
        raise UserError(f"activation.{name}={start:g}: must be above 0")
    return nn.Parameter(torch.tensor(start + math.log(-math.expm1(-start))))


def softplus(raw: nn.Parameter) -> Tensor:
    """log(1 + e^raw): the number above zero that `positive` stores."""
    return F.softplus(raw)

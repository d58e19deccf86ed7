"""What activations with own maths have in common."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.errors import UserError
from denoise.precision import wide


class Elementwise(nn.Module):
    """f(x; learned) of each number by itself; of half precision in float32, rounded once, as torch's own are.

    A subclass gives the formula, `_value(x)`. Its gradient is autograd's: no part of it may overflow where f does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self._value(wide(x)).to(x.dtype)

    def _value(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def sides(x: Tensor) -> tuple[Tensor, Tensor]:
    """max(0, x) and max(0, -x). At 0 the first has slope 1: with relu on both sides a formula has no slope there."""
    tiny = torch.finfo(x.dtype).tiny
    return F.threshold(x, -tiny, 0.0), F.threshold(-x, tiny, 0.0)


def positive(start: float, name: str) -> nn.Parameter:
    """Make the raw form of a learned number above zero, softplus(raw) = start. Errors: UserError for 0 or less."""
    if not start > 0:
        raise UserError(f"activation.{name}={start:g}: must be above 0")
    return nn.Parameter(torch.tensor(start + math.log(-math.expm1(-start))))


def softplus(raw: nn.Parameter) -> Tensor:
    """log(1 + e^raw): the number above zero that `positive` stores."""
    return F.softplus(raw)

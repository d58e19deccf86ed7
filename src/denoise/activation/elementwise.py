"""How own maths runs: a formula and its gradient, with nothing kept between the passes but the input."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.refusal import Refusal


class Elementwise(nn.Module):
    """f(x; learned) that keeps x and the learned numbers for the backward pass, and recomputes the rest.

    A subclass gives `_value(x, *learned)`, the formula in operations that autograd can follow, and
    `_gradient(g, x, *learned)`: g df/dx, then for each learned number g df/dlearned, as terms of which the sum is
    meant. Autograd would keep every intermediate of the formula. Half-precision input is computed in float32 and
    rounded once, as torch's own kernels do. Compiled, and for a second derivative, `_value` alone is used.
    """

    _value: Callable[..., Tensor]
    _gradient: Callable[..., tuple[Tensor, ...]]

    def _learned(self, x: Tensor) -> tuple[Tensor, ...]:
        """The learned numbers in a shape that broadcasts with x; by default one number for each parameter."""
        return tuple(self.parameters())

    def forward(self, x: Tensor) -> Tensor:
        learned = self._learned(x)
        if torch.compiler.is_compiling():  # the compiler fuses, and chooses itself what to keep
            return _evaluate(self, x, learned)
        return _Recomputed.apply(self, x, *learned)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _evaluate(formula: Elementwise, x: Tensor, learned: tuple[Tensor, ...]) -> Tensor:
    return formula._value(_wide(x), *learned).to(x.dtype)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Elementwise, x: Tensor, *learned: Tensor) -> Tensor:
        ctx.formula = formula
        ctx.save_for_backward(x, *learned)
        return _evaluate(formula, x, learned)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, *learned = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the gradient is to be differentiated again
            wanted = [t for t in (x, *learned) if t.requires_grad]
            found = iter(torch.autograd.grad(_evaluate(ctx.formula, x, tuple(learned)), wanted, g, create_graph=True))
            return None, *(next(found) if t.requires_grad else None for t in (x, *learned))
        dx, *terms = ctx.formula._gradient(_wide(g), _wide(x), *learned)
        sums = (term.sum_to_size(p.shape).to(p.dtype) for term, p in zip(terms, learned, strict=True))
        return None, dx.to(x.dtype), *sums


def positive(start: float, name: str) -> nn.Parameter:
    """Make the raw form of a learned number above zero, softplus(raw) = start. Errors: Refusal for 0 or less."""
    if not start > 0:
        raise Refusal(f"activation.{name}={start:g}: must be above 0")
    return nn.Parameter(torch.tensor(start + math.log(-math.expm1(-start))))


def softplus(raw: nn.Parameter) -> Tensor:
    """log(1 + e^raw): the number above zero that `positive` stores."""
    return F.softplus(raw)

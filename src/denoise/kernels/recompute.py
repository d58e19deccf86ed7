"""How own maths runs: a formula and its gradient, with little more than the input kept between the passes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Recomputed(nn.Module):
    """f(x; learned) that keeps x and the learned numbers for the backward pass, and recomputes the rest.

    A subclass gives `_value(x, *learned)`, the formula in operations that autograd can follow, and
    `_gradient(g, x, *learned, *kept)`: g df/dx, then for each learned number g df/dlearned, as terms of which the sum
    is meant. Autograd would keep every intermediate of the formula; `_value_and_kept(x, *learned)`, where there is one,
    keeps those that are worth it. `_value` may be torch's own, where that is slow `only_on_cpu`. Half-precision input
    is computed in float32 and rounded once, as torch's own kernels do. Compiled, for a second derivative, and under
    torch.func's transforms `_value` alone is used; there a learned number may have more dimensions than x, so that
    `_value` changes nothing in place by one. A subclass whose formula is written for another arrangement of the numbers
    gives `_arranged` and `_restored`: within the pass a view costs autograd nothing.
    """

    only_on_cpu = False
    _value: Callable[..., Tensor]
    _value_and_kept: Callable[..., tuple[Tensor, tuple[Tensor, ...]]] | None = None
    _gradient: Callable[..., tuple[Tensor, ...]]

    def _arranged(self, x: Tensor) -> Tensor:
        """The numbers as the formula takes them: x itself."""
        return x

    def _restored(self, y: Tensor, x: Tensor) -> Tensor:
        """What the formula gave, arranged as x is."""
        return y

    def _learned(self, x: Tensor) -> tuple[Tensor, ...]:
        """The learned numbers in a shape that broadcasts with the formula's x; by default one for each parameter.

        `x` is as it was given, not yet `_arranged`.
        """
        if self._modules:
            return tuple(self.parameters())
        return tuple(p for p in self._parameters.values() if p is not None)  # the same, without a walk

    def forward(self, x: Tensor) -> Tensor:
        learned = self._learned(x)
        if torch.compiler.is_compiling():  # the compiler fuses, and chooses itself what to keep
            return _evaluate(self, x, learned)
        if self.only_on_cpu and x.device.type != "cpu":
            return self._restored(self._value(self._arranged(x), *learned), x)
        try:
            if not torch.is_grad_enabled():
                return _evaluate_and_keep(self, x, learned)[0]
            return _Function.apply(self, x, *learned)
        except RuntimeError:  # so torch.func's transforms and forward mode refuse; they can follow the formula
            return _evaluate(self, x, learned)


def wide(x: Tensor) -> Tensor:
    """Half precision as float32, as torch's own norms take it under autocast."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _evaluate(formula: Recomputed, x: Tensor, learned: tuple[Tensor, ...]) -> Tensor:
    return formula._restored(formula._value(formula._arranged(wide(x)), *learned), x).to(x.dtype)


def _evaluate_and_keep(
    formula: Recomputed, x: Tensor, learned: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    both = formula._value_and_kept
    if both is None:
        return _evaluate(formula, x, learned), ()
    y, kept = both(formula._arranged(wide(x)), *learned)
    return formula._restored(y, x).to(x.dtype), kept


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Recomputed, x: Tensor, *learned: Tensor) -> Tensor:
        y, kept = _evaluate_and_keep(formula, x, learned)
        ctx.formula, ctx.learned = formula, len(learned)
        ctx.save_for_backward(x, *learned, *kept)
        return y.detach()  # no view to autograd: it may be changed in place

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, *saved = ctx.saved_tensors
        learned = saved[: ctx.learned]
        if torch.is_grad_enabled():  # create_graph=True: the gradient is to be differentiated again
            wanted = [t for t in (x, *learned) if t.requires_grad]
            found = iter(torch.autograd.grad(_evaluate(ctx.formula, x, tuple(learned)), wanted, g, create_graph=True))
            return None, *(next(found) if t.requires_grad else None for t in (x, *learned))
        arranged = ctx.formula._arranged
        dx, *terms = ctx.formula._gradient(arranged(wide(g)), arranged(wide(x)), *saved)
        sums = (term.sum_to_size(p.shape).to(p.dtype) for term, p in zip(terms, learned, strict=True))
        return None, ctx.formula._restored(dx, x).to(x.dtype), *sums

"""Muon: matrices by orthogonal updates."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from denoise.optimizer.groups import Halved
from denoise.optimizer.rule import Betas, Rule


class Muon(Halved, Rule):
    """w <- (1 - lr weight_decay) w - lr 0.2 sqrt(max(out, in)) NewtonSchulz5(momentum m + (1 - momentum) g), matrices.

    m <- momentum m + (1 - momentum) g. Jordan et al. 2024; the factor is that of Liu et al. 2025, arXiv:2502.16982,
    with which one `lr` serves matrices and the rest, which AdamW trains. A convolution weight is (out, in h w). Jordan
    and pytorch_optimizer iterate in bfloat16; in float32 an update of the default U-Net takes half the time on a CPU.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        betas: Betas = (0.9, 0.95),
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, betas=betas, eps=eps, weight_decay=weight_decay)

    def _apart(self, matrices: bool) -> dict[str, Any]:
        return {"orthogonal": matrices}

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        if group["orthogonal"]:
            m = self._kept(parameters, "m")
            torch._foreach_lerp_(m, gradients, 1 - group["momentum"])
            self._descend(group, parameters, _orthogonalized(torch._foreach_lerp(gradients, m, group["momentum"])))
        else:
            self._descend(group, parameters, self._adams(group, parameters, gradients))


def _orthogonalized(tensors: Sequence[Tensor], steps: int = 5) -> list[Tensor]:
    """0.2 sqrt(max(out, in)) NewtonSchulz(x) of each tensor as a matrix (out, in): about orthogonal, entries of 0.2.

    x <- 3.4445 x - 4.775 (x x^T) x + 2.0315 (x x^T)^2 x from x / |x|, the coefficients of Jordan et al. 2024, which
    leave singular values of 0.7 to 1.2. All matrices of a shape go together, the shorter side as rows, the columns in
    the order of memory: the iteration gives the same either way.
    """
    shaped: dict[tuple[int, ...], list[int]] = {}
    matrices = []
    for number, tensor in enumerate(tensors):
        matrix = _in_order(tensor).flatten(1)
        matrix = matrix.T if len(matrix) > matrix.shape[1] else matrix
        matrices.append(matrix)
        shaped.setdefault(matrix.shape, []).append(number)
    found: list[Tensor] = [torch.empty(0)] * len(matrices)
    for shape, numbers in shaped.items():
        x = torch.stack([matrices[number] for number in numbers]).float()
        lengths = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float64)  # 1e-30 has a square too
        x = x / lengths.clamp_min(1e-37).float()
        for _ in range(steps):
            square = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
        for number, matrix in zip(numbers, x.mul_(0.2 * max(shape) ** 0.5).unbind(), strict=True):
            like = _in_order(tensors[number])
            matrix = matrix if like.flatten(1).shape == shape else matrix.T
            update = matrix.reshape(like.shape).to(like.dtype)
            found[number] = update.permute(0, 3, 1, 2) if like is not tensors[number] else update
    return found


def _in_order(tensor: Tensor) -> Tensor:
    """A convolution weight in channels_last as (out, h, w, in), which is its order in memory; any other as it is."""
    last = tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1) if last else tensor

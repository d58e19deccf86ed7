"""Optimizers beyond torch's own, and who gets weight decay. Call shape: (params) -> Optimizer."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def is_matrix(parameter: Tensor) -> bool:
    """Tell a matrix or convolution weight from biases, gains and the lengths of a weight normalization."""
    return parameter.ndim >= 2 and parameter.numel() > parameter.shape[0]


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Split trainable parameters in two: matrices, and the rest without weight decay.

    Decay is for weights of two or more dimensions. Biases, normalization weights and an activation's learned
    parameters are left alone, as is the length in a weight normalization (one number per output channel).
    """
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if is_matrix(parameter) else free).append(parameter)
    return [group for group in ({"params": decayed}, {"params": free, "weight_decay": 0.0}) if group["params"]]


def muon(
    params: Iterable[Any],
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    momentum: float = 0.95,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """W <- W - lr 0.2 sqrt(max(out, in)) NewtonSchulz5(m) for matrices, AdamW for the rest.

    Jordan et al. 2024; the factor is that of Liu et al. 2025, arXiv:2502.16982, with which one `lr` serves both
    halves. A convolution weight is taken as (out, in h w). `params`: tensors, or groups that may carry their own
    `weight_decay`.
    """
    from pytorch_optimizer import Muon

    given = list(params)
    groups = given if given and isinstance(given[0], dict) else [{"params": given}]
    split = []
    for group in groups:
        decay = group.get("weight_decay", weight_decay)
        tensors = list(group["params"])
        matrices = [p for p in tensors if is_matrix(p)]
        rest = [p for p in tensors if not is_matrix(p)]
        if matrices:
            split.append({"params": matrices, "use_muon": True, "lr": lr, "momentum": momentum, "weight_decay": decay})
        if rest:
            split.append({"params": rest, "use_muon": False, "lr": lr, "betas": betas, "weight_decay": decay})
    return Muon(split, use_adjusted_lr=True)

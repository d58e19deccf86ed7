"""Optimizers of pytorch_optimizer that take a model's matrices apart from the rest."""

from collections.abc import Iterable
from typing import Any

import torch

from denoise.optimizer.groups import halves


def muon(
    params: Iterable[Any],
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    momentum: float = 0.95,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """W <- W - lr 0.2 sqrt(max(out, in)) NewtonSchulz5(m) for matrices, AdamW for the rest.

    Jordan et al. 2024; the factor is that of Liu et al. 2025, arXiv:2502.16982, with which one `lr` serves both
    halves. A convolution weight is taken as (out, in h w).
    """
    from pytorch_optimizer import Muon

    both = {"lr": lr, "weight_decay": weight_decay}
    groups = halves(
        params, {"use_muon": True, "momentum": momentum, **both}, {"use_muon": False, "betas": betas, **both}
    )
    return Muon(groups, use_adjusted_lr=True)


def soap(
    params: Iterable[Any], lr: float = 3e-3, max_precondition_dim: int = 512, **settings: Any
) -> torch.optim.Optimizer:
    """Adam in the eigenbasis of Shampoo's statistics for matrices, AdamW for the rest.

    Vyas et al. 2024, arXiv:2409.11321. A convolution weight has four modes with a basis each, as in Shampoo. The rest
    is turned by nothing, and neither is a mode of more than `max_precondition_dim`, whose basis would cost too much.
    """
    from pytorch_optimizer import SOAP

    groups = halves(params, {"max_precondition_dim": max_precondition_dim}, {"max_precondition_dim": 0})
    return SOAP(groups, lr=lr, max_precondition_dim=max_precondition_dim, **settings)

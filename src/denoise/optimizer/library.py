"""An optimizer of pytorch_optimizer that takes a model's matrices apart from the rest."""

from collections.abc import Iterable
from typing import Any

import torch

from denoise.optimizer.groups import halves


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

"""Precision and recall: which drawn images lie among the real ones, and which real ones among the drawn.

Kynkaanniemi et al. 2019, arXiv:1904.06991.
"""

import torch
from torch import Tensor

NEIGHBOURS = 3


def within(points: Tensor, of: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """Of each point whether it lies in a ball around one of `of` that reaches to its k-th nearest neighbour: (N,).

    points: (N, D), of: (M, D) with M > k. Errors: ValueError where there are fewer.
    """
    if len(of) <= neighbours:
        raise ValueError(f"{len(of)} points have no {neighbours} neighbours each")
    points, of = points.double(), of.double()
    exact = "donot_use_mm_for_euclid_dist"  # by a product of matrices near points are at a distance of 0
    among = torch.cdist(of, of, compute_mode=exact).fill_diagonal_(torch.inf)
    radius = among.kthvalue(neighbours, dim=1).values
    return (torch.cdist(points, of, compute_mode=exact) <= radius).any(1)


def precision(drawn: Tensor, real: Tensor) -> float:
    """The share of the drawn points that lie among the real ones."""
    return within(drawn, real).double().mean().item()


def recall(drawn: Tensor, real: Tensor) -> float:
    """The share of the real points that lie among the drawn ones."""
    return within(real, drawn).double().mean().item()

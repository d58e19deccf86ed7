"""Activations that torch lacks. An option is a file in conf/activation; call shape: () -> Module."""

import torch
from torch import Tensor, nn


class Swish(nn.Module):
    """x * sigmoid(beta * x), beta learned, one per layer.

    Any shape in, the same shape out. Ramachandran, Zoph & Le 2017, arXiv:1710.05941.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)

"""An activation of one's own. An option is a file in conf/activation; call shape: () -> Module."""

import torch
from torch import Tensor, nn


class AlgebraicGate(nn.Module):
    """x (1 + u / sqrt(1 + u^2)) / 2, u = a x, a learned, one per layer. Any shape in, the same shape out."""

    def __init__(self, a: float = 1.0) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(float(a)))

    def forward(self, x: Tensor) -> Tensor:
        u = self.a * x
        return x * (1 + u * torch.rsqrt(1 + u.square())) / 2

"""Feed-forward layers of a transformer block. Call shape: (dim, hidden_dim, activation) -> Module.

`activation` is a factory, ([num_channels]) -> Module. (B, T, dim) in, (B, T, dim) out. The last layer is `out`, which
an initialization may start at zero.
"""

from collections.abc import Callable

from torch import Tensor, nn

Activation = Callable[..., nn.Module]


class MLP(nn.Module):
    """W2 act(W1 x): the transformer's own. Vaswani et al. 2017, arXiv:1706.03762."""

    def __init__(self, dim: int, hidden_dim: int, activation: Activation) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden_dim)
        self.activation = activation(hidden_dim)
        self.out = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.activation(self.hidden(x)))


class GLU(nn.Module):
    """W2 (gate(W x + b) * (V x + c)): a gated linear unit, the gate any activation.

    Dauphin et al. 2017, arXiv:1612.08083; Shazeer 2020, arXiv:2002.05202: glu, bilinear, reglu, geglu and swiglu are
    this with sigmoid, identity, relu, gelu and silu. The hidden width is two thirds of `hidden_dim`, so that it has
    an MLP's number of parameters. The chosen `activation` is not used: the gate is what makes geglu geglu.
    """

    def __init__(self, dim: int, hidden_dim: int, activation: Activation, gate: nn.Module) -> None:
        super().__init__()
        width = round(hidden_dim * 2 / 3)
        self.hidden = nn.Linear(dim, 2 * width)
        self.gate = gate
        self.out = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.hidden(x).chunk(2, dim=-1)
        return self.out(self.gate(gate) * value)

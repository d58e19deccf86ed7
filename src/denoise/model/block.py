"""Blocks of a backbone. They receive factories and never see a component's name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from denoise.errors import UserError
from denoise.initializer.stage import Stage
from denoise.model.embedding import NO_CLASS, Fourier
from denoise.randomness import Stochastic

PLACEMENTS = ("pre", "post", "sandwich")


@dataclass(frozen=True)
class Part:
    """The components of one part of a backbone, as factories."""

    activation: Callable[..., nn.Module]  # ([num_channels])
    normalization: Callable[[int], nn.Module]
    weight_normalization: Callable[[nn.Module], nn.Module]
    initializer: Callable[[Tensor, nn.Module], Stage | None]
    feed_forward: Callable[[int, int, Callable[..., nn.Module]], nn.Module]
    placement: str = "pre"
    dropout: float = 0.0


@dataclass(frozen=True)
class Parts:
    """The parts of a backbone; `zero_output` starts the last layer of each residual branch at zero.

    `named`: those that a config cuts out of a network that is not ours, by patterns of module paths.
    """

    residual: Part
    transformer: Part
    embedding: Part
    zero_output: bool = True
    named: Mapping[str, Part] = field(default_factory=dict)


def chosen(parts: Any, name: str) -> Any:
    """The components of a part by its name: one of `named`, or residual, transformer, embedding."""
    named = getattr(parts, "named", {})
    return named[name] if name in named else getattr(parts, name)


class Dropout(Stochastic):
    """x m / (1 - p), m ~ Bernoulli(1 - p) from the layer's keyed stream; x in evaluation."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"dropout={p}: not a probability below 1; legal: 0 to 0.99")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator(x.device))
        return x * keep / (1 - self.p)


class Norms(nn.Module):
    """Where a residual branch f is normalized: pre x + f(n(x)), post n(x + f(x)), sandwich x + n2(f(n1(x)))."""

    def __init__(self, part: Part, dim_in: int, dim_out: int) -> None:
        super().__init__()
        if part.placement not in PLACEMENTS:
            raise UserError(f"placement={part.placement}: unknown; legal: {', '.join(PLACEMENTS)}")
        inner, branch, outer = (part.placement in on for on in (("pre", "sandwich"), ("sandwich",), ("post",)))
        self.inner = part.normalization(dim_in) if inner else nn.Identity()
        self.branch = part.normalization(dim_out) if branch else nn.Identity()
        self.outer = part.normalization(dim_out) if outer else nn.Identity()


class Modulation(nn.Module):
    """x (1 + scale) + shift, both linear in the noise embedding. Perez et al. 2018, arXiv:1709.07871.

    x: (B, C, H, W) or (B, T, C); embedding: (B, E). Its layer starts at zero: the identity.
    """

    def __init__(self, dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.out = nn.Linear(embedding_dim, 2 * dim)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.out(embedding).chunk(2, dim=1)
        if x.ndim == 4:
            return torch.addcmul(shift[:, :, None, None], x, 1 + scale[:, :, None, None])
        return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class NoiseEmbedding(nn.Module):
    """act(W2 act(W1 fourier(c_noise)) + V one_hot(label)): (B,), (B,) -> (B, dim). NO_CLASS adds nothing."""

    part_name = "embedding"

    def __init__(self, part: Part, dim: int, num_classes: int) -> None:
        super().__init__()
        self.fourier = Fourier(dim)
        self.hidden = nn.Linear(dim, dim)
        self.hidden_activation = part.activation(dim)
        self.out = nn.Linear(dim, dim)
        self.out_activation = part.activation(dim)
        self.label = nn.Linear(num_classes, dim, bias=False) if num_classes else None

    def forward(self, c_noise: Tensor, labels: Tensor | None) -> Tensor:
        embedding = self.out(self.hidden_activation(self.hidden(self.fourier(c_noise))))
        if self.label is not None:
            if labels is None:
                raise ValueError("this backbone is class-conditional: give it labels, (B,) integers")
            told = nn.functional.one_hot(labels.clamp(min=0), self.label.in_features) * (labels != NO_CLASS)[:, None]
            embedding = embedding + self.label(told.to(embedding))
        return self.out_activation(embedding)


class ResidualBlock(nn.Module):
    """skip(x) + conv2(dropout(act(mod(norm(conv1(act(x))))))): (B, C_in, H, W) -> (B, C_out, H, W).

    The conditioning enters between the two convolutions, the outer norms stand where `placement` says.
    """

    part_name = "residual"

    def __init__(self, part: Part, dim_in: int, dim_out: int, embedding_dim: int) -> None:
        super().__init__()
        self.norms = Norms(part, dim_in, dim_out)
        self.activation_in = part.activation(dim_in)
        self.conv_in = nn.Conv2d(dim_in, dim_out, 3, padding=1)
        self.norm = part.normalization(dim_out)
        self.modulation = Modulation(dim_out, embedding_dim)
        self.activation_out = part.activation(dim_out)
        self.dropout = Dropout(part.dropout)
        self.conv_out = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        self.skip = nn.Conv2d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def zero_layers(self) -> list[nn.Module]:
        return [self.conv_out]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(self.activation_in(self.norms.inner(x)))
        h = self.modulation(self.norm(h), embedding)
        h = self.norms.branch(self.conv_out(self.dropout(self.activation_out(h))))
        return self.norms.outer(self.skip(x) + h)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v over `num_heads` heads: (B, T, dim) -> (B, T, dim)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f"model.num_heads={num_heads}: does not divide the {dim} channels; take a divisor of {dim}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.num_heads, -1).unbind(2)
        h = nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.out(h.transpose(1, 2).reshape(batch, tokens, dim))


class TransformerBlock(nn.Module):
    """x + attention(mod(norm(x))), then x + feed_forward(mod(norm(x))): (B, T, dim) -> (B, T, dim).

    Noise enters by scale and shift after each norm, as in DiT (Peebles & Xie 2023, arXiv:2212.09748); in the
    place of its gates the branches' last layers start at zero.
    """

    part_name = "transformer"

    def __init__(self, part: Part, dim: int, num_heads: int, hidden_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.attention_norms = Norms(part, dim, dim)
        self.attention_modulation = Modulation(dim, embedding_dim)
        self.attention = Attention(dim, num_heads)
        self.feed_forward_norms = Norms(part, dim, dim)
        self.feed_forward_modulation = Modulation(dim, embedding_dim)
        self.feed_forward = part.feed_forward(dim, hidden_dim, part.activation)
        self.dropout = Dropout(part.dropout)
        self.feed_forward_dropout = Dropout(part.dropout)

    def zero_layers(self) -> list[nn.Module]:
        return [self.attention.out, self.feed_forward.get_submodule("out")]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        n = self.attention_norms
        h = self.attention(self.attention_modulation(n.inner(x), embedding))
        x = n.outer(x + n.branch(self.dropout(h)))
        n = self.feed_forward_norms
        h = self.feed_forward(self.feed_forward_modulation(n.inner(x), embedding))
        return n.outer(x + n.branch(self.feed_forward_dropout(h)))


class TransformerOnMap(TransformerBlock):
    """A transformer block over the positions of a map: (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        tokens = super().forward(x.permute(0, 2, 3, 1).reshape(batch, -1, dim), embedding)
        return tokens.view(batch, height, width, dim).permute(0, 3, 1, 2)

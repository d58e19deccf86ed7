"""The U-Net backbone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from denoise.errors import UserError
from denoise.model.block import NoiseEmbedding, Parts, ResidualBlock, TransformerOnMap
from denoise.model.embedding import as_size


class UNet(nn.Module):
    """Residual and transformer blocks down to the coarsest resolution and up again, with skip connections.

    (B, channels, H, W), c_noise (B,), labels (B,) or None -> (B, channels, H, W). Ronneberger et al. 2015,
    arXiv:1505.04597, in the residual form of Ho et al. 2020, arXiv:2006.11239. `channel_mult` has one entry per
    level, 0 the finest; the image size must divide by 2^(levels - 1). The levels in `attention_levels` have a
    transformer block after each residual block; the middle has one if the coarsest level has.
    """

    part_names = ("residual", "transformer", "embedding")

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        num_classes: int,
        parts: Parts,
        width: int = 32,
        channel_mult: Sequence[int] = (1, 2),
        blocks_per_level: int = 1,
        attention_levels: Sequence[int] = (1,),
        num_heads: int = 4,
        feed_forward_ratio: float = 2.0,
        embedding_dim: int = 128,
    ) -> None:
        super().__init__()
        levels = len(channel_mult)
        if not levels:
            raise UserError("model.channel_mult=[]: a U-Net needs one level or more, such as [1,2]")
        check_size(image_size, levels)
        for level in attention_levels:
            if level not in range(levels):
                legal = ", ".join(map(str, range(levels)))
                raise UserError(f"model.attention_levels: there is no level {level}; legal: {legal}")
        dims = [width * mult for mult in channel_mult]

        def stage(dim_in: int, dim_out: int, level: int) -> nn.ModuleList:
            blocks: list[nn.Module] = [ResidualBlock(parts.residual, dim_in, dim_out, embedding_dim)]
            if level in attention_levels:
                hidden = max(1, round(dim_out * feed_forward_ratio))
                blocks.append(TransformerOnMap(parts.transformer, dim_out, num_heads, hidden, embedding_dim))
            return nn.ModuleList(blocks)

        self.conv_in = nn.Conv2d(channels, dims[0], 3, padding=1)
        self.embedding = NoiseEmbedding(parts.embedding, embedding_dim, num_classes)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        skips, dim = [dims[0]], dims[0]
        for level, dim_out in enumerate(dims):
            for _ in range(blocks_per_level):
                self.down.append(stage(dim, dim_out, level))
                dim = dim_out
                skips.append(dim)
            last = level == levels - 1
            self.shrink.append(nn.Identity() if last else nn.Conv2d(dim, dim, 3, stride=2, padding=1))
        self.middle = stage(dim, dim, levels - 1)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(levels)):
            for _ in range(blocks_per_level):
                self.up.append(stage(dim + skips.pop(), dims[level], level))
                dim = dims[level]
            self.grow.append(nn.Conv2d(dim, dims[level - 1], 3, padding=1) if level else nn.Identity())
            dim = dims[level - 1] if level else dim
        self.blocks_per_level = blocks_per_level
        self.norm_out = parts.residual.normalization(dim)
        self.activation_out = parts.residual.activation(dim)
        self.conv_out = nn.Conv2d(dim, channels, 3, padding=1)

    def zero_layers(self) -> list[nn.Module]:
        return [self.conv_out]

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.embedding(c_noise, labels)

        def run(stage: nn.Module, h: Tensor) -> Tensor:
            for block in stage:  # type: ignore[attr-defined]
                h = block(h, embedding)
            return h

        per_level = self.blocks_per_level
        h = self.conv_in(x)
        skips = []
        for level, shrink in enumerate(self.shrink):
            for stage in self.down[level * per_level : (level + 1) * per_level]:
                h = run(stage, h)
                skips.append(h)
            h = shrink(h)
        h = run(self.middle, h)
        for level, grow in enumerate(self.grow):
            for stage in self.up[level * per_level : (level + 1) * per_level]:
                h = run(stage, torch.cat([h, skips.pop()], dim=1))
            if not isinstance(grow, nn.Identity):
                h = grow(nn.functional.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv_out(self.activation_out(self.norm_out(h)))


def check_size(image_size: tuple[int, int], levels: int) -> None:
    """Refuse an image size that `levels` levels do not divide."""
    factor = 2 ** (levels - 1)
    side = math.gcd(*image_size)
    if side % factor:
        fit = max(1, (side & -side).bit_length())
        raise UserError(
            f"model.channel_mult: {levels} levels need an image size that {factor} divides, the data have "
            f"{as_size(image_size)}; take at most {fit} entries, or another data.image_size"
        )

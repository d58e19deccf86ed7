"""The transformer backbone."""

import math

from torch import Tensor, nn

from denoise.errors import UserError
from denoise.model.block import Modulation, NoiseEmbedding, Parts, TransformerBlock
from denoise.model.embedding import as_size, sin_cos_2d


class DiT(nn.Module):
    """Patches as tokens through `depth` transformer blocks and back: a diffusion transformer.

    (B, channels, H, W), c_noise (B,), labels (B,) or None -> (B, channels, H, W). Peebles & Xie 2023,
    arXiv:2212.09748, with scale and shift after each norm and zeroed last layers instead of its gates.
    """

    part_names = ("transformer", "embedding")

    def __init__(
        self,
        image_size: tuple[int, int],
        channels: int,
        num_classes: int,
        parts: Parts,
        patch_size: int = 2,
        dim: int = 96,
        depth: int = 4,
        num_heads: int = 4,
        feed_forward_ratio: float = 4.0,
        embedding_dim: int = 128,
    ) -> None:
        super().__init__()
        side = math.gcd(*image_size)
        if patch_size < 1 or side % patch_size:
            raise UserError(
                f"model.patch_size={patch_size}: does not divide the image size {as_size(image_size)}; "
                f"legal: {', '.join(str(p) for p in range(1, side + 1) if side % p == 0)}"
            )
        if dim % 4:
            raise UserError(f"model.dim={dim}: must be a multiple of 4; take {dim - dim % 4 or 4}")
        part = parts.transformer
        self.grid = image_size[0] // patch_size, image_size[1] // patch_size
        self.patch = nn.Conv2d(channels, dim, patch_size, stride=patch_size)
        self.embedding = NoiseEmbedding(parts.embedding, embedding_dim, num_classes)
        self.register_buffer("place", sin_cos_2d(dim, *self.grid), persistent=False)
        hidden = max(1, round(dim * feed_forward_ratio))
        self.blocks = nn.ModuleList(TransformerBlock(part, dim, num_heads, hidden, embedding_dim) for _ in range(depth))
        self.norm_out = part.normalization(dim)
        self.modulation_out = Modulation(dim, embedding_dim)
        self.out = nn.Linear(dim, patch_size**2 * channels)
        self.patch_size = patch_size

    place: Tensor

    def zero_layers(self) -> list[nn.Module]:
        return [self.out]

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.embedding(c_noise, labels)
        h = self.patch(x).flatten(2).transpose(1, 2) + self.place  # (B, T, dim)
        for block in self.blocks:
            h = block(h, embedding)
        h = self.out(self.modulation_out(self.norm_out(h), embedding))  # (B, T, p p C)
        batch, p, (rows, columns) = len(h), self.patch_size, self.grid
        h = h.view(batch, rows, columns, p, p, -1).permute(0, 5, 1, 3, 2, 4)
        return h.reshape(batch, -1, rows * p, columns * p)

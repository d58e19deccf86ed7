"""A grid of images as PNG."""

import io
import math

from PIL import Image
from torch import Tensor

SIDE, WIDE = 32, 256  # pixels of an image, and across the grid, that are shown at least


def grid_png(images: Tensor, kind: str = "picture", scale: int | None = None, columns: int | None = None) -> bytes:
    """Lay (N, C, H, W) out in a grid, a square one unless `columns` says, as PNG bytes.

    Enlarged by a whole number, nearest, to at least 32 pixels an image and 256 across.

    Of more channels than three the first three are shown, of two the first one. Pictures are in [-1, 1]; of a latent
    each channel is shown between two standard deviations to either side of its mean.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = scale or max(1, -(-SIDE // min(height, width)), -(-WIDE // (columns * width)))
    down, across = height * factor + 2, width * factor + 2
    sheet = Image.new("RGB", (columns * across + 2, rows * down + 2), (255, 255, 255))
    images = images[:, : 3 if channels >= 3 else 1]
    if kind != "picture":
        images = _scaled(images)
    pixels = ((images.clamp(-1, 1).nan_to_num(-1) + 1) * 127.5).round().byte().cpu()
    for i, picture in enumerate(pixels.expand(-1, 3, -1, -1)):
        tile = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy(), "RGB")
        tile = tile.resize((width * factor, height * factor), Image.Resampling.NEAREST)
        sheet.paste(tile, (2 + i % columns * across, 2 + i // columns * down))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def webp(png: bytes) -> bytes:
    """The same picture as WebP, without loss."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, format="WEBP", lossless=True, method=0)
    return buffer.getvalue()


def _scaled(images: Tensor) -> Tensor:
    """(x - mean) / (2 std), by channel."""
    x = images.double()
    mean = x.mean((0, 2, 3), keepdim=True)
    return (x - mean) / (2 * (x - mean).square().mean((0, 2, 3), keepdim=True).sqrt().clamp(min=1e-12))

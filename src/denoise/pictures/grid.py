"""A grid of images as PNG."""

import io
import math

from PIL import Image
from torch import Tensor


def grid_png(images: Tensor, scale: int | None = None) -> bytes:
    """Lay (N, C, S, S) in [-1, 1] out in a square grid, enlarged to at least 32 pixels an image, as PNG bytes."""
    count, channels, size, _ = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = scale or max(1, -(-32 // size))
    cell = size * factor + 2
    sheet = Image.new("RGB", (columns * cell + 2, rows * cell + 2), (255, 255, 255))
    pixels = ((images.clamp(-1, 1).nan_to_num(-1) + 1) * 127.5).round().byte().cpu()
    for i, picture in enumerate(pixels.expand(-1, 3, -1, -1) if channels == 1 else pixels):
        tile = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy(), "RGB")
        tile = tile.resize((size * factor, size * factor), Image.Resampling.NEAREST)
        sheet.paste(tile, (2 + i % columns * cell, 2 + i // columns * cell))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()

"""One image file of any size and mode as bytes of one size: cut to its middle, never squeezed."""

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
ORIENTATION = 0x0112  # the tag of EXIF, and what turns each of its values upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BYTE_OF_16_BITS = np.round(np.arange(1 << 16) / 257).astype(np.uint8)
DEEP, CLEAR, SMALL = "of 16 bits scaled to 8", "with transparency put over white", "smaller than that, enlarged"


def pixels(file: Any, size: tuple[int, int], channels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decode a file, by its name or open: (channels, height, width), and what is to be said of it.

    The first frame, upright as EXIF says, over white where it is transparent, cut to the largest rectangle of the
    proportions of `size` (height, width) in its middle. Raises what Pillow raises, ValueError for numbers without a
    known range.
    """
    with Image.open(file, formats=FORMATS) as image:
        image.draft("RGB", (2 * max(size), 2 * max(size)))  # a JPEG is decoded at a part of its size where that will do
        turn = _turn(image)
        image.load()
        sideways = turn is not None and turn >= Image.Transpose.ROTATE_90 and turn != Image.Transpose.ROTATE_180
        height, width = size[::-1] if sideways else size
        box = middle(image.width, image.height, width, height)
        made, said = _eight_bits(image, channels)
        if box[2] - box[0] < width or box[3] - box[1] < height:
            said += (SMALL,)
        made = made.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    if made.mode == "RGBA":
        made = Image.alpha_composite(Image.new("RGBA", made.size, (255, 255, 255, 255)), made)
    made = made.convert("L" if channels == 1 else "RGB")
    array = np.asarray(made if turn is None else made.transpose(turn))
    return array.reshape(*size, channels).transpose(2, 0, 1), said


def middle(width: int, height: int, to_width: int, to_height: int) -> tuple[float, float, float, float]:
    """The largest rectangle of the proportions to_width : to_height in the middle: left, top, right, bottom."""
    across = min(width, height * to_width / to_height)
    down = min(height, width * to_height / to_width)
    return (width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2


def _turn(image: Image.Image) -> Image.Transpose | None:
    with suppress(Exception):  # what is wrong with the tags is not wrong with the picture
        return UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return None


def _eight_bits(image: Image.Image, channels: int) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in a mode of 8 bits that can be resized, and what was done to it."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scaled(np.asarray(image))), (DEEP,)
    if image.mode in ALPHA or "transparency" in image.info:
        return image.convert("RGBA"), (CLEAR,)
    return image.convert("L" if channels == 1 or image.mode in ("1", "L") else "RGB"), ()


def _scaled(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = numbers.min(), numbers.max()
    if numbers.dtype.kind == "f" and 0 <= low <= high <= 1:
        return np.asarray(np.round(numbers * 255), np.uint8)
    if numbers.dtype.kind != "f" and 0 <= low <= high < len(BYTE_OF_16_BITS):
        return BYTE_OF_16_BITS[numbers]
    legal = "0 to 1" if numbers.dtype.kind == "f" else f"0 to {len(BYTE_OF_16_BITS) - 1}"
    raise ValueError(f"pixels of {low:g} to {high:g}, legal are {legal}")

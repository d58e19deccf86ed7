"""The emoji of Noto Color Emoji, from the bitmaps in its font file: some 3,900 pictures of 136x128, in colour."""

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from denoise.data.cache import kept
from denoise.data.collect import Listed, collect
from denoise.data.folder import check_channels, sides
from denoise.data.images import Images
from denoise.data.pixels import pixels
from denoise.errors import UserError
from denoise.paths import place

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
METRICS = {17: 5, 18: 8, 19: 0}  # image formats that hold a PNG, and the bytes of metrics before it


def emoji(
    root: str | None = None,
    image_size: int | Sequence[int] = 32,
    channels: int = 3,
    flip: bool = False,
    memory: float = 4.0,
) -> Images:
    """Read every bitmap of the font over white: 70 % train, 15 % validation, 15 % test, no classes.

    `root` is the font file, or its folder; without it, it is looked for where Debian puts it. Errors: UserError.
    """
    size = sides(image_size)
    check_channels(channels)
    path = place(root or FONT, f"data.root={root}")
    path = path / Path(FONT).name if path.is_dir() else path
    if not path.is_file():
        raise UserError(
            f"data.root={root}: no {path}; either install Debian's package (apt-get install fonts-noto-color-emoji) or "
            "give the font file with data.root=FILE"
        )
    told = {
        "emoji": str(path.resolve()),
        "size": size,
        "channels": channels,
        "bytes": path.stat().st_size,
        "changed": path.stat().st_mtime_ns,
    }
    data = kept(told, memory, partial(_made, path, size, channels))
    return replace(data, flip=flip)


def _made(path: Path, size: tuple[int, int], channels: int, allocate: Any) -> Images:
    found = bitmaps(path)
    listed = Listed(f"data.root={path}", [f"glyph {glyph}" for glyph in found], [0] * len(found), [""] * len(found))
    files = list(found.values())
    return collect(
        listed, lambda i: pixels(io.BytesIO(files[i]), size, channels), (channels, *size), np.uint8, allocate, 0.0
    )


def bitmaps(path: Path) -> dict[int, bytes]:
    """The PNG of each glyph that has one, by the tables CBLC (where) and CBDT (what) of OpenType 1.9.

    Errors: UserError for a file that has no such tables.
    """
    font = path.read_bytes()
    try:
        count = struct.unpack_from(">H", font, 4)[0]
        tables = {font[at : at + 4]: struct.unpack_from(">I", font, at + 8)[0] for at in range(12, 12 + 16 * count, 16)}
        where, what = tables[b"CBLC"], tables[b"CBDT"]
        found: dict[int, bytes] = {}
        for strike in range(struct.unpack_from(">I", font, where + 4)[0]):
            first, _, subtables = struct.unpack_from(">III", font, where + 8 + 48 * strike)
            for number in range(subtables):
                begin, end, offset = struct.unpack_from(">HHI", font, where + first + 8 * number)
                found |= _subtable(font, where + first + offset, what, begin, end)
    except (struct.error, KeyError) as error:
        raise UserError(f"data.root={path}: no font with bitmaps in colour (tables CBLC and CBDT)") from error
    return found


def _subtable(font: bytes, at: int, what: int, begin: int, end: int) -> dict[int, bytes]:
    """The bitmaps of the glyphs `begin` to `end`, whose offsets stand at `at` in four bytes (format 1) or two (3)."""
    form, image, start = struct.unpack_from(">HHI", font, at)
    if form not in (1, 3) or image not in METRICS:
        return {}
    offsets = struct.unpack_from(f">{end - begin + 2}{'I' if form == 1 else 'H'}", font, at + 8)
    found = {}
    for glyph, (offset, after) in enumerate(zip(offsets, offsets[1:], strict=False), start=begin):
        if after > offset:
            place_of = what + start + offset + METRICS[image]
            length = struct.unpack_from(">I", font, place_of)[0]
            found[glyph] = font[place_of + 4 : place_of + 4 + length]
    return found

"""One image of any size and mode: cut to its middle in its own proportions, upright, scaled and not clipped."""

import io
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from denoise.data.pixels import CLEAR, DEEP, SMALL, middle, pixels

side = st.integers(1, 300)


def stored(image: Image.Image, form: str = "png", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


def ramp(width: int, height: int) -> np.ndarray:
    """Red grows by 2 a column, green by 2 a row."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = 2 * np.arange(width)
    picture[..., 1] = 2 * np.arange(height)[:, None]
    return picture


@given(side, side, side, side)
def test_the_middle_is_the_largest_rectangle_of_the_proportions(width, height, to_width, to_height):
    left, top, right, bottom = middle(width, height, to_width, to_height)
    scale = min(Fraction(width, to_width), Fraction(height, to_height))
    assert right - left == pytest.approx(float(scale * to_width)) and left == pytest.approx(width - right, abs=1e-9)
    assert bottom - top == pytest.approx(float(scale * to_height)) and top == pytest.approx(height - bottom, abs=1e-9)
    assert left >= 0 and top >= 0 and right <= width and bottom <= height


@given(st.integers(24, 110), st.integers(24, 110), st.integers(4, 20), st.integers(4, 20), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_each_pixel_is_that_of_its_place(width, height, down, across, channels):
    """A ramp stays a ramp: what stands at the middle of an output pixel, by hand. Nothing is squeezed."""
    found, _ = pixels(stored(Image.fromarray(ramp(width, height))), (down, across), channels)
    assert found.shape == (channels, down, across) and found.dtype == np.uint8
    scale = min(width / across, height / down)
    x = (width - 1) / 2 + (np.arange(across) - (across - 1) / 2) * scale
    y = (height - 1) / 2 + (np.arange(down) - (down - 1) / 2) * scale
    red, green = np.broadcast_to(2 * x, (down, across)), np.broadcast_to(2 * y[:, None], (down, across))
    inside = (slice(1, -1), slice(1, -1))
    for plane, wanted in zip(found, [red, green] if channels == 3 else [0.299 * red + 0.587 * green], strict=False):
        assert np.abs(plane - wanted)[inside].max(initial=0) < 3.5


def test_what_has_the_size_keeps_its_bytes():
    picture = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    assert (pixels(stored(Image.fromarray(picture)), (12, 20), 3)[0] == picture.transpose(2, 0, 1)).all()


@given(st.integers(8, 40), st.integers(8, 40), st.sampled_from([257, 256]), st.sampled_from(["png", "tiff"]))
@settings(max_examples=20, deadline=None)
def test_16_bits_are_their_8_bit_twin(width, height, factor, form):
    """Of 257 v and of 256 v, the two ways to write a byte in 16 bits."""
    eight = np.random.default_rng(width).integers(0, 256, (height, width), dtype=np.uint8)
    deep = Image.fromarray(eight.astype(np.uint16) * factor)
    size = (8, 8) if factor == 257 else (height, width)
    found, said = pixels(stored(deep, form), size, 1)
    twin, nothing = pixels(stored(Image.fromarray(eight)), size, 1)
    assert np.abs(found.astype(int) - twin).max() <= 1 and said == (DEEP,) and nothing == ()


def test_numbers_without_a_known_range_are_refused():
    unit = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    found, _ = pixels(stored(Image.fromarray(unit), "tiff"), (8, 8), 1)
    assert (found[0] == np.round(unit * 255)).all()
    for numbers in (unit * 3, unit - 1, unit * np.nan, (unit * 1e6).astype(np.int32)):
        with pytest.raises(ValueError, match="pixels of .*, legal are 0 to"):
            pixels(stored(Image.fromarray(numbers), "tiff"), (8, 8), 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(6, 10), (5, 5), (3, 8)])
def test_exif_turns_a_picture_upright(orientation, size):
    """The tag says where row 0 and column 0 of what is stored belong: EXIF 2.3, table 6."""
    upright = np.random.default_rng(1).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    kept = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found, _ = pixels(stored(Image.fromarray(np.ascontiguousarray(kept)), exif=exif), size, 3)
    wanted, _ = pixels(stored(Image.fromarray(upright)), size, 3)
    assert np.abs(found.astype(int) - wanted).max() <= (0 if size == (6, 10) else 2)


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_shows_the_same_white_and_black(mode, channels):
    grey = np.zeros((16, 16), np.uint8)
    grey[:, 8:] = 255
    image = Image.fromarray(grey)
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else image.convert("RGB").convert(mode)
    form = {"CMYK": "tiff", "YCbCr": "tiff"}.get(mode, "png")
    found, _ = pixels(stored(image, form), (16, 16), channels)
    assert (found == np.broadcast_to(grey, (channels, 16, 16))).all()


@pytest.mark.parametrize(("mode", "form"), [("RGBA", "png"), ("RGBA", "webp"), ("RGBA", "tiff"), ("LA", "png")])
def test_what_is_transparent_is_over_white(mode, form):
    image = Image.new(mode, (8, 8), (0,) * (len(mode) - 1) + (255,))
    image.paste((30,) * (len(mode) - 1) + (0,), (0, 0, 8, 4))
    found, said = pixels(stored(image, form, **{"lossless": True} if form == "webp" else {}), (8, 8), 3)
    assert said == (CLEAR,) and (found[:, :4] == 255).all() and (found[:, 4:] == 0).all()


@pytest.mark.parametrize("form", ["png", "gif"])
def test_a_transparent_colour_of_a_palette_is_white(form):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 200, 90, 0, 0])
    image.paste(0, (0, 0, 8, 4))
    found, said = pixels(stored(image, form, transparency=0), (8, 8), 3)
    assert said == (CLEAR,) and (found[:, :4] == 255).all() and (found[:, 4:, 0] == [[90], [0], [0]]).all()


def test_half_transparent_is_half_white():
    image = Image.new("RGBA", (40, 40), (0, 100, 200, 128))
    found, _ = pixels(stored(image), (8, 8), 3)
    assert np.abs(found.astype(int) - np.array([127, 177, 227])[:, None, None]).max() <= 1


@pytest.mark.parametrize("form", ["gif", "png", "webp", "tiff"])
def test_of_an_animation_the_first_frame_is_taken(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black", "red")]
    options = {"lossless": True} if form == "webp" else {}
    made = stored(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert (pixels(made, (8, 8), 3)[0] == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 7), (7, 800)])
def test_what_is_smaller_is_enlarged_and_said_to_be(size):
    found, said = pixels(stored(Image.new("RGB", size, (1, 2, 3))), (8, 8), 3)
    assert said == (SMALL,) and (found == np.array([1, 2, 3])[:, None, None]).all()
    assert pixels(stored(Image.new("RGB", (8, 9))), (8, 8), 3)[1] == ()


def test_a_large_jpeg_is_that_of_its_pixels():
    """It is decoded at a part of its size, which changes little."""
    smooth = np.fromfunction(lambda y, x, c: 127 + 120 * np.sin(x / 60 + c) * np.cos(y / 45), (480, 640, 3))
    made = stored(Image.fromarray(smooth.astype(np.uint8)), "jpeg", quality=95)
    found, _ = pixels(made, (30, 40), 3)
    wanted = smooth.reshape(30, 16, 40, 16, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(found - wanted)[:, 1:-1, 1:-1].max() < 4

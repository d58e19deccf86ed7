"""A grid of samples: where each picture stands, of any shape and number of channels."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from denoise.pictures.grid import grid_png, webp


def opened(images: torch.Tensor, *args, **more) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(grid_png(images, *args, **more))))


@given(st.integers(1, 7), st.sampled_from([1, 2, 3, 4, 16]), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_each_picture_stands_in_its_cell_in_its_own_proportions(count, channels, height, width):
    images = torch.randint(0, 256, (count, channels, height, width)) / 127.5 - 1
    sheet = opened(images, scale=2)
    columns = int(np.ceil(np.sqrt(count)))
    assert sheet.shape == (-(-count // columns) * (2 * height + 2) + 2, columns * (2 * width + 2) + 2, 3)
    for i, image in enumerate(images):
        top, left = 2 + i // columns * (2 * height + 2), 2 + i % columns * (2 * width + 2)
        cell = sheet[top : top + 2 * height : 2, left : left + 2 * width : 2]
        shown = image[:3] if channels >= 3 else image[:1].expand(3, -1, -1)
        assert (cell == ((shown + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).all()


def test_a_small_picture_is_enlarged_by_a_whole_number():
    assert opened(torch.zeros(1, 1, 8, 12)).shape == (22 * 8 + 4, 22 * 12 + 4, 3)  # 256 across
    assert opened(torch.zeros(1, 3, 40, 300)).shape == (44, 304, 3)
    assert opened(torch.zeros(100, 3, 8, 8)).shape == (10 * 34 + 2, 10 * 34 + 2, 3)  # 32 a picture
    assert opened(torch.zeros(32, 3, 8, 8), columns=8).shape == (4 * 34 + 2, 8 * 34 + 2, 3)


def test_a_picture_is_the_same_as_webp():
    png = grid_png(torch.rand(3, 3, 5, 5) * 2 - 1)
    assert (np.asarray(Image.open(io.BytesIO(webp(png)))) == np.asarray(Image.open(io.BytesIO(png)))).all()


@pytest.mark.parametrize("kind", ["picture", "latent"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, 7.0])
def test_any_numbers_give_a_picture(kind, value):
    images = torch.randn(4, 4, 6, 6)
    images[0] = value
    assert opened(images, kind).shape[2] == 3


def test_a_latent_is_shown_between_two_deviations():
    torch.manual_seed(0)
    images = 5 + 3 * torch.randn(1, 4, 64, 64)
    pixels = opened(images, "latent", scale=1)[2:-2, 2:-2].astype(float)
    wanted = ((images - 5) / 6).clamp(-1, 1)[0, :3].permute(1, 2, 0).numpy() * 127.5 + 127.5
    assert np.abs(pixels - wanted).mean() < 3

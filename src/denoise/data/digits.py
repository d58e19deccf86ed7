"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 in ten classes, in the wheel."""

import torch

from denoise.data.images import Images
from denoise.data.split import resize, split


def digits(image_size: int = 8) -> Images:
    """Load the digits at `image_size`: 70 % train, 15 % validation, 15 % test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    return split(resize(images, image_size), labels, (0.15, 0.15), num_classes=10)

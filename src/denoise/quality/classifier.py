"""A small network that tells a data set's classes apart, for its features; trained once, kept in a file."""

import math
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, max_pool2d, silu

from denoise.data.images import Images
from denoise.errors import UserError
from denoise.process_state import steady
from denoise.randomness import seeded, stream

VERSION = 1  # of how it is made and trained: what another version has kept is not read
WIDTHS = (32, 64, 64)
STEPS, BATCH, LEARNING_RATE = 400, 128, 3e-3


class Classifier(nn.Module):
    """Three convolutions, each halving the image where it can, the mean over what is left, and a linear layer.

    accuracy: on the test images; scale: brings the features to a mean square of 1.
    """

    accuracy: Tensor
    scale: Tensor

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        ends = zip((channels, *WIDTHS), WIDTHS, strict=False)
        self.convolutions = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in ends)
        self.head = nn.Linear(WIDTHS[-1], num_classes)
        self.register_buffer("accuracy", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 64), of a mean square of 1 over training images."""
        return self._embedded(x) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._embedded(x))

    def _embedded(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = silu(convolution(x))
            x = max_pool2d(x, 2) if min(x.shape[-2:]) >= 4 else x
        return x.mean((-2, -1))


def trained(data: Images, folder: Path | None) -> Classifier:
    """The classifier of a data set: from `folder` where it has been trained before, else trained and kept there.

    Of several processes that train it at once the first keeps its own, and the others take that.
    Errors: UserError for data without classes, or without test images.
    """
    check(data)
    model = Classifier(data.channels, data.num_classes)
    path = folder / f"classifier-{VERSION}-{data.content_hash()[:24]}.safetensors" if folder is not None else None
    if path is None or not _read(model, path):
        _train(model, data)
        if path is not None:
            _keep(model, path)
    return model.eval().requires_grad_(False)


def check(data: Images) -> None:
    """Refuse data that no classifier can be trained and judged on."""
    way = "take quality=file quality.path=FILE, a TorchScript file that makes features of images, or quality=none"
    if data.num_classes < 2 or len(data.labels["train"].unique()) < 2:
        raise UserError(f"quality=classifier: the data have no classes to train a classifier on; {way}")
    if not len(data.images["test"]):
        raise UserError(f"quality=classifier: the data have no test images to judge a classifier on; {way}")


def _read(model: Classifier, path: Path) -> bool:
    try:
        model.load_state_dict(load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError, ValueError):  # not there, or not whole
        return False
    return True


def _keep(model: Classifier, path: Path) -> None:
    """Write it beside its place and link it there, where another process has not been faster; then read that one."""
    with suppress(OSError):  # what cannot be written is trained again
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=".making-", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
            try:
                os.link(name, path)
            except OSError:  # it is there, or this disk has no links
                if not _read(model, path):
                    os.replace(name, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


def _train(model: Classifier, data: Images) -> None:
    """AdamW, a cosine to 0; the same bits on one machine however many threads it is given: it takes one."""
    with steady(), torch.enable_grad():
        torch.set_num_threads(1)
        with seeded(0, "quality/classifier"):
            for layer in (*model.convolutions, model.head):
                layer.reset_parameters()  # type: ignore[operator]
        optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
        for step in range(STEPS):
            index = torch.randint(len(data.labels["train"]), (BATCH,), generator=stream(0, "quality/batch", step))
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
            optimizer.zero_grad()
            cross_entropy(model(_images(data, "train", index)), _labels(data, "train", index)).backward()
            optimizer.step()
        with torch.no_grad():
            some = torch.randperm(len(data.labels["train"]), generator=stream(0, "quality/scale"))[:1024]
            scale = model.features(_images(data, "train", some)).square().mean().rsqrt()
            right = [
                model(_images(data, "test", part)).argmax(1) == _labels(data, "test", part)
                for part in torch.arange(len(data.labels["test"])).split(1024)
            ]
            model.accuracy.fill_(torch.cat(right).double().mean().item())
            model.scale.copy_(scale)


def _images(data: Images, split: str, index: Tensor) -> Tensor:
    return data.look_up(split, index).cpu()


def _labels(data: Images, split: str, index: Tensor) -> Tensor:
    labels = data.labels[split]
    return labels[index.to(labels.device)].cpu()

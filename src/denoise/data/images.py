"""Images in memory with a fixed split, and how a batch is looked up."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from denoise.config import catalog
from denoise.errors import UserError
from denoise.randomness import stream

NOT_THE_LOADERS = ("batch_size", "sigma_data")
SPLITS = ("train", "validation", "test")
SLACK = 1 + 1e-4  # pixels lie in [-1, 1]; rounding may go a little beyond


@dataclass(frozen=True)
class Images:
    """A data set in memory: images (N, C, S, S) float32 in [-1, 1] and labels (N,) int64, by split."""

    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    num_classes: int

    def __deepcopy__(self, memo: object) -> "Images":
        return self  # read-only and large: copies of a model that holds it share it

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for coloured ones."""
        return self.images["train"].shape[1]

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return self.images["train"].shape[-1]

    def to(self, device: torch.device) -> "Images":
        """Put all of it on `device`."""
        if self.images["train"].device == device:
            return self
        images = {split: x.to(device) for split, x in self.images.items()}
        return Images(images, {split: y.to(device) for split, y in self.labels.items()}, self.num_classes)

    def content_hash(self) -> str:
        """sha256 over the shapes and bytes of every split, images and labels."""
        digest = hashlib.sha256()
        for split in SPLITS:
            for tensor in (self.images[split], self.labels[split]):
                digest.update(f"{split}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class Batches:
    """Training batches by optimizer step: each epoch is a permutation keyed by (seed, epoch), the last part left out.

    Errors: UserError where a batch is larger than the data.
    """

    def __init__(self, data: Images, batch_size: int, seed: int) -> None:
        count = len(data.images["train"])
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size}: must be 1 or more; legal: 1 to {count}")
        if batch_size > count:
            raise UserError(
                f"data.batch_size={batch_size}: larger than the {count} training images; take data.batch_size={count} "
                "or less"
            )
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.per_epoch = count // batch_size
        self.epoch = -1
        self.order = torch.empty(0)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Look up the batch of an optimizer step: images (B, C, S, S) and labels (B,)."""
        epoch, place = divmod(step, self.per_epoch)
        images = self.data.images["train"]
        if epoch != self.epoch:
            order = torch.randperm(len(images), generator=stream(self.seed, "data/order", epoch))
            self.epoch, self.order = epoch, order.to(images.device)
        index = self.order[place * self.batch_size : (place + 1) * self.batch_size]
        return images[index], self.data.labels["train"][index]


def split(images: Tensor, labels: Tensor, fractions: tuple[float, float], num_classes: int) -> Images:
    """Cut into train, validation and test by a permutation that never changes; fractions: validation, test."""
    order = torch.randperm(len(images), generator=stream(0, "data/split"))
    held = [round(fraction * len(images)) for fraction in fractions]
    parts = torch.split(order, [len(images) - sum(held), *held])
    return Images(
        {name: images[index] for name, index in zip(SPLITS, parts, strict=True)},
        {name: labels[index] for name, index in zip(SPLITS, parts, strict=True)},
        num_classes,
    )


def resize(images: Tensor, size: int) -> Tensor:
    """Bring (N, C, S, S) to another size by bilinear interpolation, antialiased. Errors: UserError for no squares."""
    check_square(images)
    if size < 1:
        raise UserError(
            f"data.image_size={size}: must be 1 or more; leave it out for the data's own {images.shape[-1]}"
        )
    if size == images.shape[-1]:
        return images
    return torch.nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def check_square(images: Tensor) -> None:
    """Refuse images that a square network would have to squash. Errors: UserError."""
    height, width = images.shape[-2:]
    if height != width or not height:
        raise UserError(
            f"data: images of {height}x{width} pixels are no squares; pad them or cut them to squares first"
        )


def check(data: Images) -> Images:
    """Refuse data that no training can use as they are; the same data else. One pass over the pixels.

    Errors: UserError, for what is no image or label, does not belong together, is empty, or outside its range.
    """
    if not isinstance(data, Images):
        raise UserError(f"data: the loader returned {type(data).__name__}; it must return denoise.data.Images")
    for name in SPLITS:
        images, labels = data.images.get(name), data.labels.get(name)
        if images is None or labels is None:
            raise UserError(
                f"data: no {name} split; give images and labels for {', '.join(SPLITS)} (test may be empty)"
            )
        _check_split(name, images, labels, data)
    return data


def _check_split(name: str, images: Tensor, labels: Tensor, data: Images) -> None:
    shape = tuple(images.shape)
    if images.ndim != 4 or images.dtype != torch.float32:
        raise UserError(f"data: {name} images are {images.dtype} of shape {shape}; give torch.float32 of (N, C, S, S)")
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        said = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise UserError(f"data: {len(images)} {name} images but labels {said}; give torch.int64 of ({len(images)},)")
    check_square(images)
    if images.shape[1:] != data.images["train"].shape[1:]:
        raise UserError(f"data: {name} images are of shape {shape[1:]}, train images of others; give all the same")
    if not len(images):
        if name == "test":
            return
        raise UserError(f"data: no {name} images; give more images, or hold more of them back for the {name} split")
    low, high = (pixel.item() for pixel in images.aminmax())  # either is NaN where any pixel is
    if not -SLACK <= low <= high <= SLACK:
        finite = low == low and abs(low) < float("inf") and high < float("inf")
        way = "bring them there; bytes by x / 127.5 - 1" if finite else "leave out the images that are not finite"
        raise UserError(f"data: {name} pixels are {low:g} to {high:g}, outside -1 to 1; {way}")
    first, last = (label.item() for label in labels.aminmax())
    if not 0 <= first <= last < data.num_classes:
        raise UserError(
            f"data: {name} labels are {first} to {last}, but there are {data.num_classes} classes; legal: 0 to "
            f"{data.num_classes - 1}"
        )


def load(cfg: DictConfig) -> Images:
    """Load the data set that a `data` config names, checked; a second call with the same config costs nothing."""
    return _load(_key(cfg))


def content_hash(cfg: DictConfig) -> str:
    """sha256 of the data that a `data` config names."""
    return _hash(_key(cfg))


def _key(cfg: DictConfig) -> str:
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    return json.dumps({k: v for k, v in content.items() if k not in NOT_THE_LOADERS}, sort_keys=True)


@lru_cache(maxsize=4)
def _load(text: str) -> Images:
    try:
        return check(catalog.call(json.loads(text), kind="data"))
    except OSError as error:
        raise UserError(f"data: {error}; put the file there, or take other data") from error


@lru_cache(maxsize=4)
def _hash(text: str) -> str:
    return _load(text).content_hash()

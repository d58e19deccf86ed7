"""Images in memory, or in a file that is mapped, with a fixed split."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from denoise.config import catalog
from denoise.errors import UserError

NOT_THE_LOADERS = ("batch_size", "sigma_data")
SPLITS = ("train", "validation", "test")
KINDS = ("picture", "latent")
SLACK = 1 + 1e-4  # pixels lie in [-1, 1]; rounding may go a little beyond
CHUNK = 1 << 22  # numbers that are looked at together


@dataclass(frozen=True)
class Images:
    """A data set: images (N, C, H, W) by split, uint8 or float32, and labels (N,) int64.

    kind: picture, of pixels in [-1, 1], bytes meaning x / 127.5 - 1; or latent, of any numbers; flip: whether training
    images are mirrored at random; conditions: name -> split -> (N, ...), what else goes with an image; notes: what
    the user should know, a line each; streamed: the images stay in their file, and batches are read ahead; sha256,
    sigma_data: the content's, where they are known.
    """

    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    num_classes: int
    kind: str = "picture"
    flip: bool = False
    conditions: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    streamed: bool = False
    sha256: str = ""
    sigma_data: float | None = None

    def __deepcopy__(self, memo: object) -> "Images":
        return self  # read-only and large: copies of a model that holds it share it

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.images["train"].shape[1:]
        return channels, height, width

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for coloured ones."""
        return self.shape[0]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.shape[1]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.shape[2]

    def look_up(self, split: str, index: Tensor) -> Tensor:
        """The images of a split at these places, as a network takes them: (B, C, H, W) float32."""
        images = self.images[split]
        return floats(images[index.to(images.device)])

    def told(self, names: Iterable[str], split: str, index: Tensor) -> dict[str, Tensor]:
        """The conditions of these names for the images of a split at these places: (B, ...) each."""
        arrays = {name: self.conditions[name][split] for name in names}
        return {name: array[index.to(array.device)] for name, array in arrays.items()}

    def to(self, device: torch.device) -> "Images":
        """Put all of it on `device`; of what is streamed, nothing."""
        if self.streamed or self.images["train"].device == device:
            return self

        def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {split: x.to(device) for split, x in tensors.items()}

        conditions = {name: moved(arrays) for name, arrays in self.conditions.items()}
        return replace(self, images=moved(self.images), labels=moved(self.labels), conditions=conditions)

    def content_hash(self) -> str:
        """sha256 over the shapes and numbers of every split: images, labels, conditions.

        Bytes count as the floats that a network takes: the same pictures have the same hash, however they are kept.
        """
        if self.sha256:
            return self.sha256
        digest = hashlib.sha256()
        named = [("", self.images), ("", self.labels)]
        named += [(f"/{name}", arrays) for name, arrays in sorted(self.conditions.items())]
        for split in SPLITS:
            for name, arrays in named:
                tensor = arrays[split]
                kind = torch.float32 if tensor.dtype == torch.uint8 and not name else tensor.dtype
                digest.update(f"{split}{name}{tuple(tensor.shape)}{kind}".encode())
                for part in chunks(tensor):
                    digest.update((part if name else floats(part)).cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def sigma(self) -> float:
        """The standard deviation of all numbers of the training images, to four digits: sigma_data."""
        if self.sigma_data is not None:
            return self.sigma_data
        total, squares, count = 0.0, 0.0, 0
        for part in chunks(self.images["train"]):
            x = floats(part).double()
            total, squares, count = total + x.sum().item(), squares + x.square().sum().item(), count + x.numel()
        return float(f"{max(squares / count - (total / count) ** 2, 0.0) ** 0.5:.4g}")


def floats(images: Tensor) -> Tensor:
    """x / 127.5 - 1 of bytes, with the same bits on every device; floats as they are."""
    if images.dtype != torch.uint8:
        return images
    by = torch.full((), 127.5, device=images.device)  # by a number, CUDA would multiply with its rounded inverse
    return images.float().div_(by).sub_(1)


def chunks(rows: Tensor) -> Iterator[Tensor]:
    """The rows, some at a time."""
    if len(rows):
        yield from rows.split(max(1, CHUNK // max(1, rows[0].numel())))


def check(data: Images) -> Images:
    """Refuse data that no training can use as they are; the same data else. One pass over the pixels.

    Errors: UserError, for what is no image or label, does not belong together, is empty, or outside its range.
    """
    if not isinstance(data, Images):
        raise UserError(f"data: the loader returned {type(data).__name__}; it must return denoise.data.Images")
    if data.kind not in KINDS:
        raise UserError(f"data: kind {data.kind!r}; legal: {', '.join(KINDS)}")
    for name in SPLITS:
        images, labels = data.images.get(name), data.labels.get(name)
        if images is None or labels is None:
            raise UserError(
                f"data: no {name} split; give images and labels for {', '.join(SPLITS)} (test may be empty)"
            )
        _check_split(name, images, labels, data)
    for condition, arrays in data.conditions.items():
        counts = {split: len(arrays[split]) if split in arrays else None for split in SPLITS}
        if counts != {split: len(images) for split, images in data.images.items()}:
            raise UserError(f"data: {condition} has {counts} rows; give one for each image of each split")
    return data


def _check_split(name: str, images: Tensor, labels: Tensor, data: Images) -> None:
    shape = tuple(images.shape)
    if images.ndim != 4 or images.dtype not in (torch.float32, torch.uint8):
        raise UserError(
            f"data: {name} images are {images.dtype} of shape {shape}; give torch.float32 or torch.uint8 of "
            "(N, C, H, W)"
        )
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        said = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise UserError(f"data: {len(images)} {name} images but labels {said}; give torch.int64 of ({len(images)},)")
    if 0 in shape[1:]:
        raise UserError(f"data: {name} images are of shape {shape[1:]}: without a pixel")
    if images.shape[1:] != data.images["train"].shape[1:]:
        raise UserError(f"data: {name} images are of shape {shape[1:]}, train images of others; give all the same")
    if not len(images):
        if name == "test":
            return
        raise UserError(f"data: no {name} images; give more images, or hold more of them back for the {name} split")
    if images.dtype != torch.uint8 and not data.sha256:  # with a hash it was checked before
        _check_range(name, images, data.kind)
    first, last = (label.item() for label in labels.aminmax())
    if not 0 <= first <= last < data.num_classes:
        raise UserError(
            f"data: {name} labels are {first} to {last}, but there are {data.num_classes} classes; legal: 0 to "
            f"{data.num_classes - 1}"
        )


def _check_range(name: str, images: Tensor, kind: str) -> None:
    low, high = (pixel.item() for pixel in images.aminmax())  # either is NaN where any pixel is
    finite = low == low and abs(low) < float("inf") and high < float("inf")
    if not finite or (kind == "picture" and not -SLACK <= low <= high <= SLACK):
        way = "bring them there; bytes by x / 127.5 - 1" if finite else "leave out the images that are not finite"
        raise UserError(f"data: {name} pixels are {low:g} to {high:g}, outside -1 to 1; {way}")


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

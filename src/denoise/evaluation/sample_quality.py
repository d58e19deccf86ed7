"""How near the images that trained denoisers draw are to test images: the same noise and the same images for all."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from denoise.config import catalog
from denoise.data import images
from denoise.data.images import Images
from denoise.errors import UserError
from denoise.evaluation.ensemble import Member, read
from denoise.process_state import steady
from denoise.quality import features as made
from denoise.quality.features import Features
from denoise.quality.figures import LEVEL as LEVEL
from denoise.quality.figures import Figure as Figure
from denoise.quality.figures import Measured as Measured
from denoise.quality.figures import difference as difference
from denoise.quality.figures import figures as figures
from denoise.quality.figures import mean as mean
from denoise.quality.figures import measure
from denoise.randomness import stream
from denoise.training.accelerator import accelerator
from denoise.training.build import module_of
from denoise.training.draw import solve

NONE = "denoise.quality.features.none"
DEFAULTS = {"images": 512, "seeds": 2, "resamples": 200}  # keys of a config's quality that its target does not take
BATCH = 128  # images drawn at once
FEWEST = 16  # test images


def asked(cfg: DictConfig) -> bool:
    """Tell whether a search's config wants sample quality."""
    return bool(cfg.quality["_target_"] != NONE)


def setting(cfg: DictConfig, name: str) -> int:
    """images, seeds or resamples, as `quality` has them."""
    return int(cfg.quality.get(name, DEFAULTS[name]))


def check(cfg: DictConfig) -> None:
    """Refuse, before anything is trained, what cannot be measured at the end. Errors: UserError."""
    if not asked(cfg):
        return
    data = images.load(cfg.data)
    if len(data.images["test"]) < FEWEST:
        raise UserError(
            f"quality: the data have {len(data.images['test'])} test images, and {FEWEST} or more are drawn beside as "
            "many; take quality=none, or data that have some"
        )
    if cfg.quality["_target_"] == "denoise.quality.features.classifier":
        made.check_classes(data)
    else:
        _features(cfg, data, None)(data.look_up("test", torch.arange(2)))


def _features(cfg: DictConfig, data: Images, folder: Path | None) -> Features:
    node: Any = OmegaConf.to_container(cfg.quality, resolve=True)
    node = {name: value for name, value in node.items() if name not in DEFAULTS}
    found: Features = catalog.call(node, data, folder, kind="quality")
    return found


class SampleQuality:
    """The test images that drawn ones are measured beside, and the noise that all draw from.

    cfg: of the search; folder: where a classifier is kept. count: how many images there are of either. Errors:
    UserError where `check` would say so.
    """

    def __init__(self, cfg: DictConfig, folder: Path | None) -> None:
        self.cfg, self.data = cfg, images.load(cfg.data)
        self.count = min(setting(cfg, "images"), len(self.data.images["test"]))
        self.features = _features(cfg, self.data, folder)
        index = self._some("test")
        self.labels = self.data.labels["test"][index.to(self.data.labels["test"].device)]
        self.noise = torch.randn(self.count, *self.data.shape, generator=stream(0, "quality/noise"))
        self.real = self.features(self.data.look_up("test", index))

    def _some(self, split: str) -> Tensor:
        size = len(self.data.images[split])
        return torch.randperm(size, generator=stream(0, f"quality/{split}"))[: self.count]

    def of(self, member: Member) -> Measured | None:
        """Draw images with a trained denoiser and measure them; None where they are not finite numbers.

        One whose classes are told gets those of the test images. Errors: UserError for weights of another config.
        """
        drawn = self.draw(member)
        if not drawn.isfinite().all():
            return None
        return self._measured(drawn.clamp(-1, 1) if self.data.kind == "picture" else drawn)

    @steady()
    def draw(self, member: Member) -> Tensor:
        """The images of a trained denoiser: (N, C, H, W)."""
        if member.cfg.trainer.num_threads is not None:
            torch.set_num_threads(member.cfg.trainer.num_threads)
        module = module_of(member.cfg, read(member, self.data), self.data)
        device = torch.device("cuda" if accelerator(member.cfg.trainer.accelerator) == "gpu" else "cpu")
        denoiser, found = module.denoiser.to(device), []
        for noise, labels in zip(self.noise.split(BATCH), self.labels.split(BATCH), strict=True):
            noise = noise.to(device).contiguous(memory_format=module.format)
            found.append(solve(member.cfg, denoiser, self.data, noise, labels).cpu())
        return torch.cat(found)

    def of_training_images(self) -> dict[str, float]:
        """The figures of as many training images: about the best that drawn ones can have."""
        return self._measured(self.data.look_up("train", self._some("train")), resamples=0).values

    def _measured(self, drawn: Tensor, resamples: int | None = None) -> Measured:
        many = setting(self.cfg, "resamples") if resamples is None else resamples
        return measure(self.features(drawn), self.real, many)

"""Images that a trained denoiser draws."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.utils import parametrize

from denoise.config import catalog
from denoise.config.legal import is_lightning
from denoise.data import images as data_images
from denoise.data.images import Images
from denoise.denoiser.preconditioned import Denoiser
from denoise.errors import UserError
from denoise.model.solver import guided, sigma_steps
from denoise.pictures.grid import grid_png
from denoise.randomness import seeded, stream
from denoise.training.build import build_denoiser

OF_DRAWING = ("steps", "images", "guidance")  # keys of a solver that it does not take itself


def draw(cfg: DictConfig, denoiser: Denoiser, data: Images, seed: int = 0, images: int | None = None) -> Tensor:
    """Draw images with the config's solver from noise keyed by `seed`: (N, C, H, W) as the data are.

    images: how many; None: as many as the config says.
    """
    count = images or cfg.solver.images
    noise = torch.randn(count, *data.shape, generator=stream(seed, "sample/noise"))
    return solve(cfg, denoiser, data, noise, torch.arange(count) % max(data.num_classes, 1), seed)


def solve(cfg: DictConfig, denoiser: Denoiser, data: Images, noise: Tensor, labels: Tensor, seed: int = 0) -> Tensor:
    """Make images of noise (N, C, H, W) with the config's solver; labels (N,) count where its model is told them.

    The conditions are those of the first images of the validation split.
    """
    solver = {name: value for name, value in cfg.solver.items() if name not in OF_DRAWING}
    scale, device = cfg.solver.get("guidance", 1.0), next(denoiser.parameters()).device
    told = labels.to(device) if cfg.model.class_conditional else None
    denoise = partial(_told, denoiser, data, device) if denoiser.conditions else denoiser
    was_training = denoiser.training
    denoiser.eval()
    with parametrize.cached(), seeded(seed, "others/sample"):  # the weights stay, and what is made of them does too
        drawn: Tensor = catalog.call(
            solver,
            guided(denoise, scale) if scale != 1 and told is not None else denoise,
            noise.to(device),
            sigma_steps(cfg.solver.steps, denoiser.sigma_min, denoiser.sigma_max),
            told,
            kind="solver",
        )
    denoiser.train(was_training)
    return drawn


def _told(denoiser: Denoiser, data: Images, device: torch.device, x: Tensor, sigma: Tensor, labels: Any) -> Any:
    first = torch.arange(len(x)) % len(data.images["validation"])
    told = data.told(denoiser.conditions, "validation", first)
    return denoiser(x, sigma, labels, {name: each.to(device) for name, each in told.items()})


def sample(cfg: DictConfig, weights: Path, seed: int = 0) -> bytes:
    """Draw a grid of samples as PNG from averaged weights in a safetensors file.

    Errors: UserError where the weights are not those of the config.
    """
    data = data_images.load(cfg.data)
    return grid_png(draw(cfg, read_weights(cfg, data, weights), data, seed), data.kind)


def read_weights(cfg: DictConfig, data: Images, weights: Path) -> Denoiser:
    """The denoiser of a config, with weights from a safetensors file. Errors: UserError where they are others'."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if is_lightning(cfg.model):
        raise UserError(
            "sample: draws from denoisers; a model=lightning draws by code of its own, with its run's weights"
        )
    denoiser = build_denoiser(cfg, data)
    try:
        denoiser.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError, OSError, MemoryError) as error:  # they may be anybody's
        raise UserError(f"{weights}: not the weights of this config ({' '.join(str(error).split())[:160]})") from error
    return denoiser

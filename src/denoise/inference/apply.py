"""What a search has found, done to a model in a script of your own: no Hydra, no Lightning, no tracker."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from denoise import best_file
from denoise.config import catalog
from denoise.config.compose import compose
from denoise.config.legal import is_lightning
from denoise.config.overrides import Overrides, key
from denoise.errors import UserError
from denoise.foreign.host import SETTINGS, Host
from denoise.foreign.operate import Operation
from denoise.optimizer import parameter_groups
from denoise.randomness import seeded
from denoise.training.build import build_parts


def apply(
    model: nn.Module,
    best: str | Path,
    shape: tuple[int, int, int] | None = None,
    num_classes: int = 0,
    conditions: Mapping[str, Tensor] | None = None,
    batch: Any = None,
) -> Operation:
    """Put the components of a best.yaml into a model, in place, and set its weights as the config says.

    - model: any torch.nn.Module that a search was about (model=mine, diffusers, lightning); weights are loaded before.
    - best: the file that `make best` writes.
    - shape: channels, height and width of an image; None: what the model's own config says, as diffusers' do.
    - num_classes: more than 0 where it is told labels.
    - conditions: name -> (2, ...), of two images, where it was given further arrays of the data.
    - batch: of a LightningModule, on its device: its training_step is run on it once.
    Returned is what was done: `print(done.text())` lists every site.

    Errors: UserError for a file that is no best.yaml, a model that does not run, an initializer that wants a batch.
    """
    cfg = _config(Path(best))
    parts = build_parts(cfg)
    if is_lightning(cfg.model):
        host: Host = _stepping(model, batch, best, cfg.model.get("parts"))
    else:
        settings = {name: cfg.model[name] for name in SETTINGS if name in cfg.model and name != "class_conditional"}
        host = Host(model, shape or _shape(model), num_classes, conditions=conditions, **settings)
    with seeded(cfg.seed, "others/surgery"):
        done = host.operate(parts)
    if host.initialize(parts, cfg.seed):
        raise UserError(f"{best}: its initializer looks at a batch of a training; take initializer=as_built")
    return done


def make_optimizer(model: nn.Module, best: str | Path, max_steps: int | None = None) -> tuple[Optimizer, LRScheduler]:
    """The optimizer and the learning-rate schedule of a best.yaml, for a model that `apply` was given.

    Weight decay and matrix methods go to weights of layers alone. max_steps: of your training; None: the config's.
    Call `schedule.step()` after each `optimizer.step()`.
    """
    cfg = _config(Path(best))
    made = catalog.factory("optimizer", cfg.optimizer)(parameter_groups(_Foreign(model)))
    schedule = catalog.factory("lr_schedule", cfg.lr_schedule)(made, max_steps or cfg.trainer.max_steps)
    return made, schedule


def _stepping(model: Any, batch: Any, best: str | Path, parts: Any) -> Host:
    if batch is None:
        raise UserError(
            f"{best}: of a LightningModule: give apply(model, best, batch=...), a batch of its training_step"
        )
    from denoise.training.hosted.step import StepHost, attach, heard, unheard

    attach(heard(model, 1), None, 1)
    try:
        return StepHost(model, batch, parts)
    finally:
        unheard(model)


class _Foreign(nn.Module):
    """A model whose parameters are grouped by the layers that own them."""

    foreign = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.net = model


def _config(best: Path) -> DictConfig:
    """The config of a best.yaml, without the class that it was found for and its settings: the model is there."""
    given = Overrides(best_file.read(best))
    own = [text for text in given if key(text).startswith("model.") and key(text).split(".")[1] not in SETTINGS]
    return compose([text for text in given if text not in own]).cfg


def _shape(model: nn.Module) -> tuple[int, int, int]:
    config: Any = getattr(model, "config", None)
    size, channels = getattr(config, "sample_size", None), getattr(config, "in_channels", None)
    if size is None or channels is None:
        raise UserError(f"{type(model).__name__}: says no image size; give shape=(channels, height, width)")
    height, width = (size, size) if isinstance(size, int) else size
    return int(channels), int(height), int(width)

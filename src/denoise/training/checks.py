"""What a config must hold before a training is built of it. Each function: errors are UserError."""

import torch
from omegaconf import DictConfig

from denoise.errors import UserError, choose
from denoise.foreign.as_built import is_as_built
from denoise.training.accelerator import ACCELERATORS

PRECISIONS = ("32-true", "bf16-mixed")
CLIPPINGS = ("norm", "value")


def check_unused(cfg: DictConfig) -> None:
    """Refuse what a network that is not ours does not take from a config."""
    for name, default in (("placement", "pre"), ("dropout", 0.0)):
        own = {f"parts.{part}.{name}": node.get(name) for part, node in cfg.parts.items()}
        for path, value in ({name: cfg[name]} | own).items():
            if value not in (None, default):
                raise UserError(
                    f"{path}={value}: a model of your own has its own {name}, which surgery leaves; legal: {default}"
                )


def check_own(cfg: DictConfig) -> None:
    """Refuse what only a LightningModule of the user's own has."""
    for group, name in (("data", "own"), ("denoiser", "as_built"), ("ruler", "as_built"), ("solver", "as_built")):
        if is_as_built(cfg[group]):
            raise UserError(f"{group}={name}: is for model=lightning alone; leave it out, or take another {group}")


def check_inplace(node: DictConfig, path: str) -> None:
    """Refuse a component that writes over its input."""
    for name, value in node.items():
        if name == "inplace" and value:
            raise UserError(
                f"{path}.inplace=true: would write over its input, which a skip connection or a gradient may still "
                "need; legal: false, which computes the same"
            )
        if isinstance(value, DictConfig):
            check_inplace(value, f"{path}.{name!s}")


def check_classes(cfg: DictConfig) -> None:
    """Refuse guidance and hidden classes where there are no classes."""
    dropout, scale = cfg.model.get("class_dropout", 0.0), cfg.solver.get("guidance", 1.0)
    if dropout and not cfg.model.class_conditional:
        raise UserError(f"model.class_dropout={dropout}: wants classes; add model.class_conditional=true")
    if scale != 1 and not dropout:
        raise UserError(
            f"solver.guidance={scale}: wants a network that has trained without classes too; add "
            "model.class_conditional=true model.class_dropout=0.1"
        )


def check_parts(cfg: DictConfig) -> None:
    """Refuse a batch that cannot be divided evenly."""
    parts, size = cfg.trainer.get("accumulate", 1), cfg.data.batch_size
    if size % parts:
        legal = ", ".join(str(count) for count in range(1, size + 1) if size % count == 0)
        raise UserError(f"trainer.accumulate={parts}: does not divide data.batch_size={size}; legal: {legal}")


def check_trainer(t: DictConfig) -> None:
    """Refuse words that are none of the trainer's, and a GPU where there is none."""
    words = (("accelerator", ACCELERATORS), ("precision", PRECISIONS), ("gradient_clip_by", CLIPPINGS))
    for name, legal in words:
        if t[name] not in legal:
            raise UserError(f"trainer.{name}={t[name]}: unknown; {choose(str(t[name]), legal)}")
    if t.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu: torch sees no GPU here; take trainer.accelerator=cpu or auto")

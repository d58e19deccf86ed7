"""Several trained denoisers as one: D(x; sigma) = the mean of the members' D_i(x; sigma).

The mean of members that err independently errs less than they do (Lakshminarayanan et al. 2017, arXiv:1612.01474); it
costs as much as all of them together, in memory and in time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn

from denoise.config.legal import is_lightning
from denoise.data import images
from denoise.data.images import Images
from denoise.denoiser.preconditioned import Denoiser
from denoise.errors import UserError
from denoise.metrics import TEST_LOSS
from denoise.process_state import steady
from denoise.training.accelerator import accelerator
from denoise.training.build import build_denoiser, module_of
from denoise.training.module import DenoiseModule
from denoise.training.train import quiet


@dataclass(frozen=True)
class Member:
    """A config, and the file of its averaged weights."""

    cfg: DictConfig
    weights: Path


class Ensemble(Denoiser):
    """D(x; sigma) = mean_i D_i(x; sigma), whatever its members' networks predict. It is evaluated, not trained."""

    def __init__(self, members: Sequence[Denoiser]) -> None:
        super().__init__(nn.ModuleList(members))

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions that any member takes."""
        return tuple(dict.fromkeys(name for member in self.members for name in member.conditions))

    @property
    def members(self) -> list[Denoiser]:
        """The denoisers whose mean this is."""
        return [member for member in self.backbone.children() if isinstance(member, Denoiser)]

    def forward(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, conditions: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        first, *others = self.members
        total: Tensor = first(x, sigma, labels, conditions)
        for member in others:
            total = total + member(x, sigma, labels, conditions)
        return total / len(self.members)


def averages(cfg: DictConfig) -> bool:
    """Whether a config's models predict what can be averaged: a LightningModule of the user's own may not."""
    return not is_lightning(cfg.model)


def objective(cfg: DictConfig) -> tuple[object, ...]:
    """What a config's objective depends on beside its model: configs with the same can be one ensemble."""
    data = {str(name): value for name, value in cfg.data.items() if name != "batch_size"}
    samples = (cfg.trainer.val_samples, cfg.trainer.test_samples)
    return data, OmegaConf.to_container(cfg.ruler), samples, cfg.model.class_conditional


@steady()
def evaluate(members: Sequence[Member]) -> dict[str, float]:
    """test/loss of the members as one model where they have test triples, else val/loss and its bands.

    Batches are by the first's size. One member gives what its training gave, bit for bit on the same machine.
    Errors: UserError where the members have other objectives, or weights that are not those of their config.
    """
    cfg = members[0].cfg
    if any(objective(member.cfg) != objective(cfg) for member in members):
        raise UserError(
            "an ensemble: its members differ in data, ruler, trainer.val_samples, trainer.test_samples or "
            "model.class_conditional"
        )
    if cfg.trainer.num_threads is not None:
        torch.set_num_threads(cfg.trainer.num_threads)
    data = images.load(cfg.data)
    module = module_of(cfg, Ensemble([read(member, data) for member in members]), data)
    validate(cfg, module)
    return {TEST_LOSS: module.test_loss} if module.tested else module.objective


def read(member: Member, data: Images) -> Denoiser:
    """Build a member with its weights. Errors: UserError where they are not those of its config."""
    denoiser = build_denoiser(member.cfg, data)
    try:
        denoiser.load_state_dict(load_file(member.weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{member.weights}: not the weights of this config ({reason})") from error
    return denoiser


def validate(cfg: DictConfig, module: DenoiseModule) -> None:
    """Evaluate a module as a training does: the same device, precision and batches; on test triples if it has some."""
    from lightning.pytorch import Trainer

    with quiet():
        trainer = Trainer(
            accelerator=accelerator(cfg.trainer.accelerator),
            devices=1,
            precision=cfg.trainer.precision,
            deterministic=cfg.trainer.deterministic,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        (trainer.test if module.test_samples else trainer.validate)(module, verbose=False)

"""From a config to the training of a LightningModule of the user's own, checked, with nothing written."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.hooks import CheckpointHooks, ModelHooks
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer

from denoise.config import catalog
from denoise.errors import UserError
from denoise.fault import line
from denoise.foreign.as_built import is_as_built
from denoise.foreign.census import as_before
from denoise.initializer.stage import Report, Scope, Stage
from denoise.model.initialize import finish
from denoise.process_state import steady
from denoise.randomness import seeded, seeded_all
from denoise.training.build import build_parts, of_parts, operated
from denoise.training.hosted import reading
from denoise.training.hosted.keyed import EVALUATION, digest
from denoise.training.hosted.module import HostedModule
from denoise.training.hosted.reading import Splits
from denoise.training.hosted.step import StepHost, attach, heard, loss_of, measured, moved, tried
from denoise.training.trainable import quiet

OF_IT = ("on_validation_epoch_start", "on_validation_epoch_end", "on_before_batch_transfer", "on_after_batch_transfer")
LEFT = ("optimizer_step", "lr_scheduler_step", "backward", "configure_gradient_clipping")
MOVED = (0.01, 1.0, 10.0)  # how far parameters are moved at random, to see that the objective depends on them
SEEDED = "torch's global generator, numpy's or random's, so that seed and step decide"
CPU = torch.device("cpu")


class Hosting:
    """The training of a LightningModule."""

    def prepare(self, cfg: DictConfig) -> HostedModule:
        """Errors: UserError."""
        _check(cfg)
        splits, host = _met(cfg)
        if cfg.trainer.test_samples and not splits.count("test"):
            raise UserError(
                f"trainer.test_samples={cfg.trainer.test_samples}: no held-out example is kept aside for test/loss; "
                "take trainer.test_samples=0, and in a search search.confirm.finalists=0"
            )
        _check_objective(host, splits, cfg.model.objective)
        parts = build_parts(cfg)
        of_parts(cfg, host)
        stages = operated(cfg, host, parts)
        module = HostedModule(
            host,
            splits,
            cfg.model.objective,
            make_optimizer=catalog.factory("optimizer", cfg.optimizer),
            make_lr_schedule=catalog.factory("lr_schedule", cfg.lr_schedule),
            elementwise=catalog.elementwise(cfg.optimizer),
            seed=cfg.seed,
            max_steps=cfg.trainer.max_steps,
            val_samples=cfg.trainer.val_samples,
            gap_samples=cfg.trainer.gap_samples,
            test_samples=cfg.trainer.test_samples,
        )
        if stages:
            with steady(), as_before(host):
                module.start = _finish(stages, module, cfg.seed)
        if hasattr(module.configure_optimizers()["optimizer"], "curvature"):
            raise UserError(
                "optimizer: asks for the curvature of a denoiser's loss, and that of a LightningModule's is not "
                "known; take another optimizer"
            )
        return module

    def host(self, cfg: DictConfig) -> StepHost:
        """Errors: UserError."""
        return _met(cfg)[1]

    def data_sha256(self, cfg: DictConfig) -> str:
        """Of the first batches of each split."""
        return reading.read(cfg).sha256

    def notes(self, cfg: DictConfig) -> list[str]:
        """What the examples are for, and what of the module is not run."""
        net = reading.built(_model(cfg), cfg.seed)
        unused = sorted(name for name in _hooks() if is_overridden(name, net))
        said = ["its optimizer and lr schedule (those of the config are taken)", "its callbacks", *unused]
        name = type(net).__name__
        return [
            *reading.read(cfg, net).notes,
            f"note: {name}: not run: {', '.join(said)}; an average of its own is not kept",
        ]

    def test_images(self, cfg: DictConfig) -> int:
        """The examples that are kept for test/loss."""
        return reading.read(cfg).count("test")


def _hooks() -> list[str]:
    every = [*vars(ModelHooks), *vars(CheckpointHooks)]
    return [*LEFT, *(name for name in every if name.startswith("on_") and name not in OF_IT)]


def _model(cfg: DictConfig) -> Any:
    model: Any = OmegaConf.to_container(cfg.model, resolve=True)
    return {name: model[name] for name in ("_target_", "kwargs")}


def _check(cfg: DictConfig) -> None:
    """Refuse what would not act on a LightningModule."""
    for group, name in (("data", "own"), ("denoiser", "as_built"), ("ruler", "as_built"), ("solver", "as_built")):
        if not is_as_built(cfg[group]):
            raise UserError(
                f"{group}: does not act on model=lightning, whose batches, loss and draws are its own; legal: "
                f"{group}={name}, which is its default"
            )
    if cfg.data.get("sigma_data") is not None:
        raise UserError(f"data.sigma_data={cfg.data.sigma_data}: no denoiser of ours is trained; legal: null")
    if cfg.trainer.get("accumulate", 1) > 1:
        raise UserError(
            f"trainer.accumulate={cfg.trainer.accumulate}: what a batch of a LightningModule is made of is not known, "
            "so it is not divided; legal: 1"
        )
    if cfg.trainer.compile:
        raise UserError("trainer.compile=true: the step of a LightningModule is not compiled; legal: false")


def _met(cfg: DictConfig) -> tuple[Splits, StepHost]:
    """The module of a config and its examples, checked by a step on its first batch, and left as it was."""
    net = reading.built(_model(cfg), cfg.seed)
    name = type(net).__name__
    if not net.automatic_optimization:
        raise UserError(
            f"model: {name} has automatic_optimization=False: it takes its optimizer steps itself, so no optimizer "
            "can be compared; return the loss of one training_step"
        )
    if not is_overridden("training_step", net):
        raise UserError(f"model: {name} has no training_step, which is the loss; give it one")
    splits = reading.read(cfg, net)
    attach(heard(net, splits.train.count), None, cfg.trainer.max_steps if "trainer" in cfg else 1)
    _freeze(net)
    what, batch = f"{name}.training_step", _first_batch(splits)

    def look() -> Any:
        with seeded_all(EVALUATION, "hosted/look"):
            return moved(copy.deepcopy(batch), CPU, net, splits.hooks)

    def loss() -> Any:
        with torch.enable_grad(), seeded_all(EVALUATION, "hosted/look"):
            return loss_of(host(look()), name)

    host: StepHost = tried(net, f"{what} without gradients", lambda: StepHost(net, look(), cfg.model.get("parts")))
    one, other = tried(net, what, loss), tried(net, what, loss)
    if not one.isfinite():
        raise UserError(f"model: {what} returned a loss of {one.item()} on its first batch")
    if not one.requires_grad:
        raise UserError(f"model: {what} returned a loss without a gradient; nothing would be trained")
    if not torch.equal(one, other):
        raise UserError(
            f"model: {what} is another each time: {one.item():g} and {other.item():g} on one batch with one seed; "
            f"let it draw from {SEEDED}"
        )
    return splits, host


def _first_batch(splits: Splits) -> Any:
    """The first batch, read twice: a dataset that draws from a generator of its own is refused."""
    try:
        one, other = (splits.train.at(EVALUATION, 0) for _ in range(2))
    except Exception as error:
        raise UserError(f"model.data: the first batch cannot be read: {line(error)}") from error
    if digest(one) != digest(other):
        raise UserError(f"model.data: its dataset gives other numbers each time it is read; let it draw from {SEEDED}")
    return other


def _freeze(net: LightningModule) -> None:
    """Freeze what the module's own optimizer does not take. Errors: UserError for several optimizers.

    Where its configure_optimizers cannot be called before a training, what requires a gradient is trained.
    """
    try:
        with quiet(), steady(), seeded_all(0, "hosted/optimizers"):
            made: Any = net.configure_optimizers() if is_overridden("configure_optimizers", net) else None
    except Exception:  # it may ask its trainer for what there is only in a training
        return
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], list):
        made = made[0]
    every = list(made) if isinstance(made, list | tuple) else [made]
    optimizers = [each["optimizer"] if isinstance(each, Mapping) else each for each in every]
    if len(optimizers) > 1:
        raise UserError(
            f"model: {type(net).__name__} has {len(optimizers)} optimizers; a search compares one at a time, of one "
            "loss: model=lightning takes a module with one"
        )
    if isinstance(optimizers[0], Optimizer):
        taken = {id(parameter) for group in optimizers[0].param_groups for parameter in group["params"]}
        for parameter in net.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in taken)


def _check_objective(host: StepHost, splits: Splits, objective: str) -> None:
    """Refuse an objective that cannot be measured, or that what is trained does not change."""
    name, logs = type(host.net).__name__, objective != "training_step"
    if logs and not is_overridden("validation_step", host.net):
        raise UserError(f"model.objective={objective}: {name} has no validation_step; legal: training_step")

    def measure() -> float:
        host.eval()
        batch = moved(splits.batch("validation", 0), CPU, host.net, splits.hooks)
        return measured(host, batch, 0, objective, "hosted/look")

    what = f"{name}.validation_step" if logs else f"{name}.training_step in evaluation mode, without gradients"
    value = tried(host, what, measure)
    if not math.isfinite(value):
        raise UserError(f"model.objective={objective}: is {value} on the first held-out batch")
    trained = [parameter for parameter in host.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    others = []
    with torch.no_grad(), seeded(EVALUATION, "hosted/moved"):
        for far in MOVED:
            for parameter in trained:
                parameter.add_(torch.randn_like(parameter), alpha=far)
            others.append(tried(host, what, measure))
            for parameter, kept in zip(trained, before, strict=True):
                parameter.copy_(kept)
    if all(value == other for other in others):
        raise UserError(
            f"model.objective={objective}: is the same whatever is trained; does it use an average of the module's "
            "own, which is not kept up here? legal: training_step"
        )


class _Stepping:
    """A hosted module as a denoiser, for the second stage of an initializer: its weights by its own names."""

    def __init__(self, module: HostedModule) -> None:
        self.module, self.net = module, module.host.net

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def loss(self, step: int) -> Any:
        """The loss of a step."""
        return self.module.loss_at(step)()


def _finish(stages: dict[Stage, Scope], module: HostedModule, seed: int) -> list[Report]:
    own = {
        stage: Scope({name.removeprefix("net").lstrip("."): each for name, each in scope.modules.items()}, scope.zeroed)
        for stage, scope in stages.items()
    }
    stepping: Any = _Stepping(module)
    return finish(own, stepping, (0,), seed)

"""Train one config: train(cfg) -> Result, and the plain Hydra entry of one training."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from denoise.config import catalog
from denoise.fault import Overheard, blame, blamed, line, of_memory
from denoise.initializer.stage import Report
from denoise.interruption import heard_as_before
from denoise.metrics import (
    CHECKPOINT_LOSS,
    COST,
    FIRST_LOSS,
    GPU_UTILIZATION,
    PEAK_MEMORY_BYTES,
    SAMPLES_PER_SECOND,
    STEP_SECONDS,
    TEST_LOSS,
    TRAINING_SECONDS,
)
from denoise.pictures.grid import grid_png
from denoise.pictures.health import layers_by_steps
from denoise.process_state import steady
from denoise.training import cost, diagnostics
from denoise.training.accelerator import accelerator
from denoise.training.build import as_read, module_of, recipe
from denoise.training.build import build_denoiser as build_denoiser
from denoise.training.build import build_parts as build_parts
from denoise.training.build import prepare as prepare
from denoise.training.callbacks import Diverged, ExponentialAverage, Observer, TrainingMonitor
from denoise.training.checkpoint import Save, whole
from denoise.training.checkpoint import forget as forget
from denoise.training.draw import draw as draw
from denoise.training.draw import sample as sample
from denoise.training.measured import keep_in as keep_in
from denoise.training.measured import settle as settle
from denoise.training.module import DenoiseModule
from denoise.training.trainable import Trainable
from denoise.training.trainable import quiet as quiet

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it, set this early


@dataclass(frozen=True)
class Failure:
    """Why a training ended early: diverged or out_of_memory, at which step, and where in the network."""

    kind: str
    step: int
    message: str
    layer: str = ""


@dataclass
class Result:
    """What a training gave.

    outcome: complete, stopped (the observer ended it) or failed; step: optimizer steps taken; metrics: the last
    value of each; weights: the averaged ones by name; weights_sha256: over names and bytes; samples: a PNG;
    tested: with trainer.test_samples the losses of the test triples, float64, and the image of each;
    health: the layers by steps, an SVG; layers: the same as JSON; training_seconds and evaluating_seconds: the time in
    steps and in evaluations of the objective; start: what the initializer's second stage did, where it has one;
    weights_at: step -> what names the trained weights then, at a few of the evaluations; sites: of a network that is
    not ours, a line each.
    """

    outcome: str
    step: int
    metrics: dict[str, float]
    weights: dict[str, torch.Tensor] = field(repr=False)
    weights_sha256: str = ""
    tested: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    samples: bytes = field(default=b"", repr=False)
    health: bytes = field(default=b"", repr=False)
    layers: bytes = field(default=b"", repr=False)
    failure: Failure | None = None
    training_seconds: float = 0.0
    evaluating_seconds: float = 0.0
    start: list[Report] = field(default_factory=list)
    weights_at: dict[int, str] = field(default_factory=dict)
    sites: str = ""


def train(
    cfg: DictConfig,
    observer: Observer | None = None,
    checkpoint: Path | None = None,
    stop_at: int | None = None,
) -> Result:
    """Train the config to trainer.max_steps and evaluate it; nothing is written but `checkpoint`.

    `observer` is told the metrics and may end the training at an evaluation. Where `checkpoint` exists the
    training goes on from it, bit for bit as if it had not been interrupted, and it is kept up to date; without it
    nothing is saved. `stop_at` ends the training at the first evaluation at or after that step.
    Errors: UserError for a config that cannot be trained.
    """
    module = prepare(cfg)
    return fit(cfg, module, observer, checkpoint, stop_at)


@steady()
def fit(
    cfg: DictConfig, module: Trainable, observer: Observer | None, checkpoint: Path | None, stop_at: int | None
) -> Result:
    """Run the steps of a prepared module.

    What the observer raises is raised as it is. Errors: Outside for what the machine says, such as a full disk; what a
    component raises is an Exception whatever it was, SystemExit too.
    """
    from lightning.pytorch import Trainer

    t = cfg.trainer
    observer = Overheard(observer) if observer is not None else None
    monitor = TrainingMonitor(observer, t.log_every, t.health_every, t.diverged_at, stop_at)
    callbacks: list[Any] = [ExponentialAverage(t.ema_decay), monitor]
    if checkpoint is not None:
        callbacks.append(Save(checkpoint, t.val_every, t.save_seconds, observer))
    failure: Failure | None = None
    with quiet():
        trainer = Trainer(
            accelerator=accelerator(t.accelerator),
            devices=1,
            precision=t.precision,
            max_steps=t.max_steps,
            max_epochs=-1,
            val_check_interval=min(t.val_every, t.max_steps),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            gradient_clip_val=t.gradient_clip,
            gradient_clip_algorithm=t.gradient_clip_by,
            deterministic=t.deterministic,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it did not write
        if trainer.strategy.root_device.type == "cpu":
            cost.keep_freed_memory()
        memory = cost.PeakMemory(trainer.strategy.root_device)
        monitor.measure = lambda: _measured(module, monitor, memory)
        resume = str(checkpoint) if checkpoint is not None and whole(checkpoint) else None
        try:
            if resume is None:
                monitor.report(0, counted(cfg, module) | first_losses(cfg, module))
            with heard_as_before(), cost.no_subnormals(trainer.strategy.root_device):
                trainer.fit(module, ckpt_path=resume, weights_only=True)
                if trainer.global_step % t.val_every and not monitor.stopped:
                    trainer.validate(module, verbose=False)
                if module.test_samples and not monitor.stopped:
                    trainer.test(module, verbose=False)
                    monitor.report(trainer.global_step, {TEST_LOSS: module.test_loss})
        except Diverged as error:
            failure = Failure("diverged", error.step, str(error), error.layer)
        except BaseException as error:
            if not of_memory(error):
                blame(error, observer)
            failure = Failure("out_of_memory", trainer.global_step, line(error, 500))
    step = trainer.global_step
    monitor.report(step, _measured(module, monitor, memory))
    weights = module.weights()
    result = Result("complete", step, monitor.metrics, weights, failure=failure, start=module.start)
    result.tested, result.weights_at = module.tested, monitor.weights_at
    result.sites = module.sites
    result.health = layers_by_steps(monitor.history)
    if monitor.history:
        last = (step, diagnostics.learned(module.network))
        result.layers = diagnostics.content([*monitor.history, last])
    result.training_seconds, result.evaluating_seconds = monitor.training_seconds, monitor.evaluating_seconds
    if failure is not None:
        result.outcome = "failed"
        return result
    result.outcome = "stopped" if monitor.stopped else "complete"
    result.weights_sha256 = sha256(weights)
    if result.outcome == "complete" and isinstance(module, DenoiseModule):
        with blamed():
            result.samples = grid_png(draw(cfg, module.denoiser, module.data), module.data.kind)
    return result


def data_sha256(cfg: DictConfig) -> str:
    """sha256 of the content of the config's data."""
    return recipe(cfg).data_sha256(cfg)


def data_notes(cfg: DictConfig) -> list[str]:
    """What the user should know of the config's data, a line each."""
    return recipe(cfg).notes(cfg)


def test_images(cfg: DictConfig) -> int:
    """How many images, or other examples, of the config's data are held back for the end."""
    return recipe(cfg).test_images(cfg)


def sha256(weights: dict[str, torch.Tensor]) -> str:
    """sha256 over names, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


@steady()
def counted(cfg: DictConfig, module: Trainable) -> dict[str, float]:
    """Count what a prepared training costs before its first step: parameters, operations of a denoiser's step."""
    return module.counted()


@steady()
def first_losses(cfg: DictConfig, module: Trainable) -> dict[str, float]:
    """val/loss before the first step, and that of the network as it was read, where a training begins with its weights.

    The second one is evaluated once in a process.
    """
    if cfg.model.get("weights") != "keep" or not isinstance(module, DenoiseModule):
        return {}
    groups = [OmegaConf.to_yaml(cfg[name]) for name in ("model", "data", "denoiser", "ruler")]
    asked = (*groups, cfg.trainer.val_samples)
    if asked not in _CHECKPOINTS:
        _CHECKPOINTS[asked] = module_of(cfg, as_read(cfg, module.data), module.data).first_loss()
    return {FIRST_LOSS: module.first_loss(), CHECKPOINT_LOSS: _CHECKPOINTS[asked]}


_CHECKPOINTS: dict[tuple[object, ...], float] = {}


def _measured(module: Trainable, monitor: TrainingMonitor, memory: cost.PeakMemory) -> dict[str, float]:
    metrics: dict[str, float] = {
        PEAK_MEMORY_BYTES: memory.bytes(),
        TRAINING_SECONDS: monitor.training_seconds,
    }
    rate = monitor.samples_per_second(module.batch_size)
    if rate is not None:
        metrics[SAMPLES_PER_SECOND] = rate
        metrics[STEP_SECONDS] = module.batch_size / rate
    use = cost.gpu_utilization(memory.device)
    if use is not None:
        metrics[GPU_UTILIZATION] = use
    return metrics


@hydra.main(version_base="1.3", config_path=str(catalog.CONF), config_name="train")
def main(cfg: DictConfig) -> None:
    """Train one config without tracking: python -m denoise.training.train activation=swish (make train tracks it)."""
    OmegaConf.resolve(cfg)
    result = train(cfg)
    print({name: value for name, value in result.metrics.items() if name.startswith(("val/", COST))})


if __name__ == "__main__":
    main()

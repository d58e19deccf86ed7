"""The script that a search replaces: Optuna's optimize around a Lightning Trainer with its MLFlowLogger.

It uses nothing of the search: the project's denoiser, optimizers and learning-rate schedules are imported, but where
torch or pytorch_optimizer has a component that ours outdoes (three norms, linear layers, convolutions, Muon) it is
theirs again; all else is as their documentation shows it. It does less than a trial of ours: no averaged weights, no
looks at the layers, no noise bands, no samples, no saved state.
A training's config is an entry of a JSON file: overrides and steps.

    python -m benchmarks.by_hand configs=FILE store=FOLDER [workers=2]
"""

import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytorch_optimizer
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import MLFlowLogger
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import arguments
from denoise.config import catalog
from denoise.config.compose import raw_compose
from denoise.data import images
from denoise.denoiser.edm import EDM
from denoise.errors import UserError
from denoise.kernels.convolution import Last, Pointwise
from denoise.kernels.linear import Linear
from denoise.normalization.channels import LocalResponseNorm, RMSNorm
from denoise.normalization.positions import InstanceNorm
from denoise.normalization.shape import OverChannels, OverPositions
from denoise.optimizer import Muon, split_matrices
from denoise.training import train


class Module(LightningModule):
    """EDM's loss with noise drawn as it comes."""

    def __init__(self, cfg: DictConfig, denoiser: EDM) -> None:
        super().__init__()
        self.cfg, self.denoiser = cfg, denoiser

    def loss(self, batch: list[Tensor]) -> Tensor:
        x, labels = batch
        sigma = (torch.randn(len(x), device=x.device) * self.denoiser.P_std + self.denoiser.P_mean).exp()
        noise = torch.randn_like(x)
        return self.denoiser.loss(x, sigma, noise, labels if self.cfg.model.class_conditional else None).mean()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        options = {key: value for key, value in self.cfg.optimizer.items() if key not in ("fused", "foreach")}
        made = catalog.call(options, self.parameters(), kind="optimizer")
        if isinstance(made, Muon):
            made = the_librarys_muon(self.parameters(), options)
        schedule = catalog.factory("lr_schedule", self.cfg.lr_schedule)(made, self.cfg.trainer.max_steps)
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def the_librarys_muon(parameters: Any, options: dict[str, Any]) -> torch.optim.Optimizer:
    """pytorch_optimizer's, with the same settings."""
    both = {name: options[name] for name in ("lr", "weight_decay")}
    matrices = {"use_muon": True, "momentum": options["momentum"], **both}
    rest = {"use_muon": False, "betas": tuple(options["betas"]), **both}
    return pytorch_optimizer.Muon(split_matrices({"params": parameters}, matrices, rest), use_adjusted_lr=True)


def with_torchs_own(denoiser: EDM) -> EDM:
    """Put torch's own layers instead of ours that are faster rewritings of them."""
    Linear.forward = nn.Linear.forward  # type: ignore[method-assign, assignment]
    Pointwise.forward = Last.forward = nn.Conv2d.forward  # type: ignore[method-assign, assignment]
    for module in list(denoiser.modules()):
        for name, child in module.named_children():
            if isinstance(child, LocalResponseNorm):
                plain: nn.Module = nn.LocalResponseNorm(child.size, child.alpha, child.beta, child.k)
                setattr(module, name, OverPositions(plain))
            elif isinstance(child, InstanceNorm):
                setattr(module, name, OverPositions(child.norm))
            elif isinstance(child, RMSNorm):
                setattr(module, name, OverChannels(child.norm))
    return denoiser


def loaders(cfg: DictConfig, data: images.Images, workers: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Loaders of training batches, shuffled, and of as many validation samples as an evaluation of ours has."""
    held = images.floats(data.images["validation"])
    order = torch.arange(cfg.trainer.val_samples) % len(held)
    options: dict[str, Any] = {"batch_size": cfg.data.batch_size, "num_workers": workers}
    options["persistent_workers"] = workers > 0
    training = TensorDataset(images.floats(data.images["train"]), data.labels["train"])
    validation = TensorDataset(held[order], data.labels["validation"][order])
    return DataLoader(training, shuffle=True, drop_last=True, **options), DataLoader(validation, **options)


def fit(cfg: DictConfig, steps: int, workers: int, store: Path) -> tuple[float, int]:
    """Train one config for `steps` optimizer steps; its last validation loss, and the steps taken."""
    seed_everything(cfg.seed, verbose=False)
    data = images.load(cfg.data)
    built = train.build_denoiser(cfg, data)
    assert isinstance(built, EDM)
    denoiser = with_torchs_own(built)
    denoiser = denoiser.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    logger = MLFlowLogger(
        "by-hand", tracking_uri=f"sqlite:///{store / 'mlflow.db'}", artifact_location=artifacts(store)
    )
    trainer = Trainer(
        max_steps=steps,
        val_check_interval=min(cfg.trainer.val_every, steps),
        check_val_every_n_epoch=None,
        gradient_clip_val=cfg.trainer.gradient_clip,
        logger=logger,
        log_every_n_steps=cfg.trainer.log_every,
        default_root_dir=store,
        enable_progress_bar=False,
    )
    module = Module(cfg, denoiser)
    training, validation = loaders(cfg, data, workers)
    trainer.fit(module, training, validation)
    if steps % cfg.trainer.val_every and steps > cfg.trainer.val_every:
        trainer.validate(module, validation, verbose=False)
    return float(trainer.callback_metrics["val/loss"]), trainer.global_step


def artifacts(store: Path) -> str:
    """Where MLflow puts files."""
    return (store / "artifacts").resolve().as_uri()


def search(configs: Sequence[dict[str, Any]], workers: int, store: Path) -> list[dict[str, Any]]:
    """Train every config as a trial of one study."""
    done: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        given = configs[trial.number]
        began = time.perf_counter()
        cfg = raw_compose(tuple(given["overrides"])).cfg
        value, steps = fit(cfg, given["steps"], workers, store)
        done.append({"value": value, "steps": steps, "seconds": time.perf_counter() - began})
        print(f"trial {trial.number:>3}  step {steps}  val/loss {value:.4f}  {done[-1]['seconds']:.1f} s", flush=True)
        return value

    study = optuna.create_study(direction="minimize")
    study.optimize(objective, n_trials=len(configs))
    return done


def main(given: Sequence[str] | None = None) -> int:
    """Run the script; the trials' values, steps and seconds go into FOLDER/trials.json."""
    readers: dict[str, Any] = {"configs": Path, "store": Path, "workers": arguments.at_least(0)}
    try:
        options = arguments.read(sys.argv[1:] if given is None else given, {"workers": 2}, readers)
        for name in ("configs", "store"):
            if name not in options:
                raise UserError(f"{name}=: missing; write configs=FILE store=FOLDER")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore")
    store: Path = options["store"].resolve()
    store.mkdir(parents=True, exist_ok=True)
    done = search(json.loads(options["configs"].read_text()), options["workers"], store)
    (store / "trials.json").write_text(json.dumps(done, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

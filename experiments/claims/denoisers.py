"""Trainings of a tiny denoiser on the digits, through the same train() as every trial's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from denoise.config.compose import compose
from denoise.denoiser.edm import EDM
from denoise.training import train
from denoise.training.module import DenoiseModule, FixedSet

TINY = (
    "model.width=8",
    "model.embedding_dim=32",
    "model.num_heads=2",
    "trainer.accelerator=cpu",
    "trainer.num_threads=1",
    "trainer.val_samples=512",
    "trainer.gap_samples=0",
    "trainer.health_every=1000000",
    "solver.images=1",
    "solver.steps=2",
)


@dataclass(frozen=True)
class Trained:
    """A denoiser with its averaged weights, in evaluation mode, the fixed validation triples, and val/loss."""

    denoiser: EDM
    triples: FixedSet
    loss: float


def trained(seed: int, steps: int, batch_size: int, *overrides: str) -> Trained:
    """Train one; a training that diverges has the loss inf."""
    given = (*TINY, f"seed={seed}", f"data.batch_size={batch_size}", f"trainer.max_steps={steps}")
    cfg = compose([*given, f"trainer.val_every={steps}", *overrides]).cfg
    result = train.train(cfg)
    module = train.prepare(cfg)
    assert isinstance(module, DenoiseModule)
    module.setup("fit")
    module.denoiser.load_state_dict(result.weights)
    assert module.triples is not None
    done = result.outcome == "complete"
    assert isinstance(module.denoiser, EDM)
    return Trained(module.denoiser.eval(), module.triples, result.metrics["val/loss"] if done else float("inf"))


@torch.no_grad()
def predict(one: Trained, images: slice = slice(None)) -> Tensor:
    """Denoise the triples, or some of them, as one batch: (N, C, S, S)."""
    t = one.triples
    sigma, noise = t.sigma[images], t.noise[images]
    return one.denoiser(t.images[images] + sigma[:, None, None, None] * noise, sigma)


def losses(prediction: Tensor, one: Trained) -> Tensor:
    """The denoising loss of predictions, triple by triple, in float64: (N, C, S, S) -> (N,)."""
    weight = one.denoiser.loss_weight(one.triples.sigma.double())
    return weight * (prediction.double() - one.triples.images).square().flatten(1).mean(1)

"""A small classifier of the digits, built of the catalogue's components, and its training."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from denoise.config import catalog
from denoise.data.batches import Batches
from denoise.data.digits import digits
from denoise.data.images import Images
from denoise.randomness import seeded

PIXELS, CLASSES = 64, 10


@cache
def data() -> Images:
    """The digits, 8x8: 1,257 to train on, 270 to validate on."""
    return digits()


def layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers of a classifier, first to last."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def mlp(
    activation: str, initializer: str, seed: int = 0, hidden: tuple[int, ...] = (32, 32), **parameters: Any
) -> nn.Sequential:
    """Linear layers with activations between them, weights by the initializer, biases 0: (B, 1, 8, 8) -> (B, 10)."""
    widths = (PIXELS, *hidden, CLASSES)
    stack: list[nn.Module] = [nn.Flatten()]
    with seeded(seed, "claims/weights"):
        for i, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False)):
            act, linear = catalog.build("activation", activation), nn.Linear(fan_in, fan_out)
            catalog.build("initializer", initializer, linear.weight, act, **parameters)
            nn.init.zeros_(linear.bias)
            stack += [linear, act] if i < len(hidden) else [linear]
    return nn.Sequential(*stack)


def fit(
    model: nn.Module,
    optimizer: str,
    steps: int,
    batch_size: int = 64,
    seed: int = 0,
    watch: Callable[[int, float], None] = lambda step, loss: None,
    **parameters: Any,
) -> None:
    """Take optimizer steps on the cross-entropy of keyed batches; watch(step, loss) after each backward pass."""
    taken = catalog.build("optimizer", optimizer, model.parameters(), **parameters)
    batches = Batches(data(), batch_size, seed)
    dtype = next(model.parameters()).dtype
    model.train()
    for step in range(steps):
        images, labels = batches(step)
        taken.zero_grad()
        with seeded(seed, "claims/layers", step):  # for layers that draw
            loss = nn.functional.cross_entropy(model(images.to(dtype)), labels)
        loss.backward()
        watch(step, loss.item())
        taken.step()


@torch.no_grad()
def evaluate(model: nn.Module, split: str = "validation") -> tuple[float, float]:
    """Cross-entropy and accuracy of a split, in evaluation mode."""
    model.eval()
    dtype = next(model.parameters()).dtype
    scores: Tensor = model(data().images[split].to(dtype))
    labels = data().labels[split]
    return nn.functional.cross_entropy(scores, labels).item(), (scores.argmax(1) == labels).double().mean().item()

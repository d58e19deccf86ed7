"""The pre-screen: a few steps on one batch show what is dead or explodes, before a training is paid for."""

import copy
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from denoise.process_state import steady
from denoise.randomness import seeded
from denoise.training import diagnostics
from denoise.training.build import prepare
from denoise.training.trainable import Trainable

# Chosen on half of a table of trainings, see experiments/README.md
LOOKS = 8  # passes forward and backward, with an optimizer step between two of them
ENOUGH = 4  # looks after which a config that learns is let go: until then a gradient has come through what starts at 0
LEARNS = 0.02  # the share of the loss that has gone by then
JUMP = 1.05  # a loss so many times the first one has jumped: where warm-up was left out, that says nothing
HOPELESS = 1e3  # so many times the loss that ends a training, nothing comes back
SILENT = 1e-10  # a gradient below this is none: Adam's eps, which the loss's own scale of 1 is far above, swallows it
SAME = 1e-2  # an output that varies less over images, by its size, does not depend on the image
STILL = 1e-6  # a loss that moves less, by its size, does not move
SLOW = 0.2  # a loss that falls less, by its size, in the whole training at the pace of the looks, hardly falls
SHORTEST = 128  # steps of the trainings that SLOW was measured on; of a shorter one no more is asked
IGNORANT = 0.8  # of a loss that is 1 where nothing is known: below it something is, as from a pretrained start
UNMOVED = 1e-3  # weights that moved less, by their length, say nothing about the pace


@dataclass
class Readings:
    """What the looks showed, each before the optimizer step that follows it.

    losses: of each look; gradients: the largest |g| that each layer, linear or convolution, met; not_finite: the
    first layer with a gradient that is not finite, or ""; warmed: the schedule starts below its full lr; spread,
    varied: standard deviation of the backbone's output at the last look, over images and pixels and over images at
    each pixel, by its root mean square (0 where that is 0); moved: |w - w0| / |w0|, of all parameters together;
    scaled: whether the loss is 1 where nothing is known. Of another only what explodes or is not finite is rejected.
    """

    losses: list[float] = field(default_factory=list)
    gradients: dict[str, float] = field(default_factory=dict)
    not_finite: str = ""
    warmed: bool = False
    spread: float = 0.0
    varied: float = 0.0
    moved: float = 0.0
    scaled: bool = True

    @property
    def jumped(self) -> bool:
        """Whether the loss rose far above the first one, or out of sight."""
        return (
            bool(self.not_finite) or not max(self.losses) <= JUMP * self.losses[0] or not math.isfinite(self.losses[-1])
        )

    @property
    def fall(self) -> float:
        """The share of the first loss that a step takes off the highest one, in the mean of the looks."""
        return (max(self.losses) - self.losses[-1]) / self.losses[0] / max(1, len(self.losses) - 1)

    @property
    def learns(self) -> bool:
        """Whether there is nothing left to ask: the loss falls, and all that is rejected is ten times away."""
        return (
            len(self.losses) >= ENOUGH
            and self.losses[-1] < (1 - LEARNS) * self.losses[0]
            and self.varied > 10 * SAME
            and statistics.median(self.gradients.values()) > 10 * SILENT
        )

    @property
    def speeding(self) -> bool:
        """Whether the last step took off more than twice the mean: an optimizer that finds its own step length."""
        return len(self.losses) > 1 and (self.losses[-2] - self.losses[-1]) / self.losses[0] > 2 * self.fall


@dataclass(frozen=True)
class Screen:
    """What the screen says: `rejected`, "" or the reason in one line, the figures for it, and what it took."""

    rejected: str
    figures: Readings
    seconds: float


@steady()
def screen(cfg: DictConfig, module: Trainable | None = None) -> Screen:
    """Take the first steps of a config's training and tell whether it is worth one.

    The config's own optimizer, at the lr that its schedule scales: without warm-up. One batch, whose draws stay the
    same, so that the loss changes by the updates alone; fewer steps for what learns at once. `module`, as prepared
    from `cfg`, spares building one; it is copied, and torch's generator is put back: a training that follows is bit
    for bit the one without a screen.
    Errors: UserError for a config that cannot be trained. What is out of memory is left to the training to say.
    """
    began = time.perf_counter()
    figures = Readings()
    with seeded(cfg.seed, "screen"), _deterministic(cfg.trainer.deterministic):
        module = prepare(cfg) if module is None else copy.deepcopy(module)
        figures.scaled = module.scaled
        try:
            _look(cfg, module, figures)
            rejected = reason(figures, cfg.trainer.max_steps, cfg.trainer.diverged_at)
        except torch.OutOfMemoryError:
            rejected = ""
    return Screen(rejected, figures, time.perf_counter() - began)


def reason(figures: Readings, max_steps: int, diverged_at: float) -> str:
    """Say in one line why a training of `max_steps` is not worth its time; "" where it may be.

    `diverged_at`: a loss this many times the first one has exploded, as in the training itself, unless it came back.
    """
    losses, gradients = figures.losses, figures.gradients
    first, last, steps = losses[0], losses[-1], len(losses) - 1
    after = f"after {steps} steps" if steps else "at initialization"
    if figures.warmed and figures.jumped:
        return ""
    if not math.isfinite(last):
        return f"not finite: loss {last} {after}"
    if max(losses) > diagnostics.limit(first, diverged_at) and last > first:
        return f"exploding: loss {max(losses):.3g} at most and {last:.3g} {after}, {first:.3g} at first"
    if figures.not_finite:
        return f"not finite: the gradient of {figures.not_finite} {after}"
    if not figures.scaled:  # of another loss it is not known what its size says
        return ""
    ignorant = last > IGNORANT
    if ignorant and max(abs(loss - first) for loss in losses) <= STILL * first:
        return f"the loss does not move: {last:.6g} {after}"
    if gradients and statistics.median(gradients.values()) <= SILENT:
        silent = [name for name, value in gradients.items() if value <= SILENT]
        return f"no gradient reaches {silent[0]} and {len(silent) - 1} more of {len(gradients)} layers"
    if figures.spread <= SAME:
        return f"the output is constant {after}"
    if figures.varied <= SAME:
        return f"the output is the same for every image {after}"
    if ignorant and figures.moved > UNMOVED and not figures.speeding and figures.fall * max(max_steps, SHORTEST) < SLOW:
        pace = f"{max_steps} steps are too few at that pace"
        return f"the loss hardly falls: {last:.4g} {after}, {first:.4g} at first; {pace}"
    return ""


def _look(cfg: DictConfig, module: Trainable, figures: Readings) -> None:
    t = cfg.trainer
    module.to("cuda" if t.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    module.setup("fit")
    optimizer = module.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        figures.warmed |= group["lr"] < group["initial_lr"]
        group["lr"] = group["initial_lr"]  # as the schedule keeps it
    parameters: list[Tensor] = [p for p in module.trained.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in parameters]
    module.clock.step = 0
    take_loss = module.loss_at(0)
    output = torch.empty(0)

    def keep(network: nn.Module, args: object, found: Tensor) -> None:
        nonlocal output
        output = found.detach()

    if figures.scaled:
        module.network.register_forward_hook(keep)
    for look in range(LOOKS):
        if look:
            module.configure_gradient_clipping(optimizer, t.gradient_clip, t.gradient_clip_by)
            optimizer.step()
        optimizer.zero_grad()
        with torch.autocast(module.device.type, torch.bfloat16, enabled=t.precision == "bf16-mixed"):
            loss = take_loss()
        figures.losses.append(loss.item())
        if not figures.losses[-1] <= diagnostics.limit(figures.losses[0], HOPELESS * t.diverged_at):  # also NaN
            return
        loss.backward()
        _meet(figures, diagnostics.gradient_norms(module.network))
        if figures.scaled:
            _spread(figures, output.float())
        if figures.not_finite or (figures.learns and figures.scaled):
            break
    with torch.no_grad():
        figures.moved = (_length(torch._foreach_sub(parameters, start)) / _length(start).clamp(min=1e-30)).item()


def _spread(figures: Readings, output: Tensor) -> None:
    size = output.square().mean().sqrt().clamp(min=1e-30)
    figures.spread = (output.std(correction=0) / size).item()
    figures.varied = (output.var(dim=0, correction=0).mean().sqrt() / size).item()


def _meet(figures: Readings, norms: dict[str, float]) -> None:
    prefix = "health/gradient_norm/"
    for name, value in norms.items():
        if name.startswith(prefix):
            layer = name.removeprefix(prefix)
            figures.gradients[layer] = max(figures.gradients.get(layer, 0.0), value)
            if not math.isfinite(value):
                figures.not_finite = figures.not_finite or layer


def _length(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors)).norm()


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """As the training itself runs, and back."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(wanted)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]

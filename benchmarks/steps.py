"""Parts a, b and f: a training step against a bare loop and the processor; what looking at the layers adds."""

import copy
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from benchmarks.results import Row, ratio_row
from denoise.config.compose import compose
from denoise.training import cost, train
from denoise.training.accelerator import accelerator
from denoise.training.module import DenoiseModule

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler says on stderr when it starts and stops

Say = Callable[[str], None]
WARM = 3  # first steps that allocate; ours are left out of cost/samples_per_second too
MATRIX = 2048
CONV = (64, 128, 16)  # batch, channels, side
MULTIPLY = ("convolution", "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "scaled_dot_product")


@dataclass(frozen=True)
class Size:
    """How much parts a and b measure: pairs of `steps` steps; rounds of `inner` steps, products and convolutions."""

    pairs: int
    steps: int
    rounds: int
    inner: int


SIZES = {"full": Size(7, 100, 7, 20), "quick": Size(2, 20, 2, 5)}


class Bare:
    """A bare PyTorch loop over the model, the draws, the optimizer and the averaging of a config's training.

    Nothing of Lightning, no look at the loss, no deterministic mode: what a step must do, and nothing beside it.
    32 bits, no clipping, no torch.compile, as in the default config.
    """

    def __init__(self, cfg: DictConfig) -> None:
        torch.use_deterministic_algorithms(False)
        self.device = torch.device("cuda" if accelerator(cfg.trainer.accelerator) == "gpu" else "cpu")
        module = train.prepare(cfg).to(self.device)
        assert isinstance(module, DenoiseModule)
        self.module = module
        self.module.setup("fit")
        made = self.module.configure_optimizers()
        self.optimizer, self.lr_schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
        self.average = copy.deepcopy(self.module.denoiser)
        models = (self.average, self.module.denoiser)
        self.pairs = tuple([t for t in (*m.parameters(), *m.buffers()) if t.is_floating_point()] for m in models)
        self.decay = float(cfg.trainer.ema_decay)

    def learn(self, inputs: tuple[Any, ...]) -> None:
        """Loss, backward, optimizer."""
        self.optimizer.zero_grad()
        self.module.denoiser.loss(*inputs).mean().backward()
        self.optimizer.step()

    def step(self, number: int) -> None:
        """One whole step: draw, learn, learning rate, averaged weights."""
        self.module.clock.step = number
        self.learn(self.module.draw(number))
        self.lr_schedule.step()
        with torch.no_grad():
            weight = 1 - min(self.decay, (1 + number) / (10 + number)) if number else 1.0
            torch._foreach_lerp_(self.pairs[0], self.pairs[1], weight)

    def seconds_per_step(self, steps: int) -> float:
        """Take the steps 0 to `steps` - 1 and time all but the first three."""
        with cost.no_subnormals(self.device):  # as a training has it
            for number in range(steps):
                if number == WARM:
                    wait(self.device)
                    began = time.perf_counter()
                self.step(number)
            wait(self.device)
        return (time.perf_counter() - began) / (steps - WARM)


def wait(device: torch.device) -> None:
    """Let a GPU finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def config(steps: int) -> DictConfig:
    """The default config with so many steps."""
    return compose([f"trainer.max_steps={steps}"]).cfg


def ours(cfg: DictConfig) -> tuple[float, train.Result]:
    """Train a config; seconds per optimizer step, without the evaluations and the first three steps."""
    result = train.train(cfg)
    return cfg.data.batch_size / result.metrics["cost/samples_per_second"], result


def part_a(size: Size, say: Say) -> tuple[dict[str, Any], list[Row]]:
    """Time our training step against the bare loop's, in turns: ours, bare, ours, bare."""
    cfg = config(size.steps)
    say("warm-up of both loops")
    ours(config(WARM + 3))
    Bare(config(WARM + 3)).seconds_per_step(WARM + 3)
    raw: dict[str, Any] = {"steps": size.steps, "ours": [], "bare": [], "same_weights": True}
    for pair in range(size.pairs):
        seconds, result = ours(cfg)
        bare = Bare(cfg)
        raw["ours"].append(seconds)
        raw["bare"].append(bare.seconds_per_step(size.steps))
        raw["same_weights"] &= train.sha256(bare.average.state_dict()) == result.weights_sha256
        say(f"pair {pair + 1} of {size.pairs}: ours {seconds * 1e3:.2f} ms, bare {raw['bare'][-1] * 1e3:.2f} ms a step")
    say(f"both loops end with {'the same' if raw['same_weights'] else 'OTHER'} averaged weights")
    raw["ratios"] = [a / b for a, b in zip(raw["ours"], raw["bare"], strict=True)]
    return raw, [ratio_row("a", "our training step / a bare PyTorch loop's", raw["ratios"], "<=", 1.05)]


def median_seconds(work: Callable[[], object], count: int, device: torch.device) -> float:
    """The median time of one call, after a call that is not timed."""
    work()
    times = []
    for _ in range(count):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def multiplying_seconds(work: Callable[[], object], count: int) -> float:
    """The seconds of one call that a CPU spends in operators that multiply matrices, or convolve: the mean of calls.

    Within whole steps, as the profiler sees it, which adds a little to each; attention's softmax counts too.
    """
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(count):
            work()
    events = [event for event in profile.key_averages() if event.key.startswith("aten::")]
    chosen = [event for event in events if any(name in event.key for name in MULTIPLY)]
    return sum(event.self_cpu_time_total for event in chosen) / 1e6 / count


def part_b(size: Size, say: Say) -> tuple[dict[str, Any], list[Row]]:
    """Compare the operations a second of training steps with those of a large matrix product, in turns.

    Beside it, on a CPU: what the same ratio would be if nothing but the step's products and convolutions took time.
    """
    cost.keep_freed_memory()  # as a training does
    cfg = config(size.inner * size.rounds + size.rounds)
    bare = Bare(cfg)
    data, denoiser = bare.module.data, bare.module.denoiser
    classes = data.num_classes if cfg.model.class_conditional else 0
    batch, channels, side = CONV
    a, b, c = (torch.randn(MATRIX, MATRIX, device=bare.device) for _ in range(3))
    image = torch.randn(batch, channels, side, side, device=bare.device).contiguous(memory_format=torch.channels_last)
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(bare.device)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    inputs = [bare.module.draw(number) for number in range(8)]
    turn = iter(range(10**9))
    work: dict[str, tuple[float, Callable[[], object]]] = {
        "step": (
            cost.flops_per_step(denoiser, cfg.data.batch_size, data.shape, classes),
            lambda: bare.learn(inputs[next(turn) % len(inputs)]),
        ),
        "matrix": (2.0 * MATRIX**3, lambda: torch.mm(a, b, out=c)),
        "conv": (2.0 * batch * side**2 * channels**2 * 9, torch.no_grad()(lambda: conv(image))),
    }
    counts = {"step": size.inner, "matrix": max(3, size.inner // 4), "conv": max(3, size.inner // 2)}
    rates: dict[str, list[float]] = {name: [] for name in work}
    alone: list[float] = []
    for i in range(size.rounds):
        for name, (flops, call) in work.items():
            rates[name].append(flops / median_seconds(call, counts[name], bare.device) / 1e9)
        if bare.device.type == "cpu":
            flops, call = work["step"]
            alone.append(flops / multiplying_seconds(call, counts["step"]) / 1e9)
        shown = ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items())
        say(f"round {i + 1} of {size.rounds}, GFLOP/s: {shown}")
    ratios = [step / matrix for step, matrix in zip(rates["step"], rates["matrix"], strict=True)]
    raw = {"flops": {name: flops for name, (flops, _) in work.items()}, "gflops_per_second": rates, "ratios": ratios}
    raw["products_alone"] = alone
    rows = [ratio_row("b", f"rate of training steps / of a {MATRIX} x {MATRIX} matrix product", ratios, ">=", 0.7)]
    if alone:
        least = [rate / matrix for rate, matrix in zip(alone, rates["matrix"], strict=True)]
        rows.append(ratio_row("b", "the same if only its products and convolutions took time", least))
    named = {"step": "training steps", "matrix": "matrix product", "conv": f"3x3 convolution, {channels} channels"}
    for name, values in rates.items():
        rows.append(Row("b", named[name], statistics.median(values), "GFLOP/s", min(values), max(values)))
    return raw, rows


def part_f(size: Size, say: Say) -> tuple[dict[str, Any], list[Row]]:
    """Time what a look at the layers and the generalization gap add, in turns, as shares of a training's time.

    A training that looks at every step against one that does not; evaluations with and without training images.
    """
    default = config(size.steps).trainer
    fixed = [f"trainer.max_steps={size.steps}", f"trainer.val_every={size.steps}"]
    often = [f"trainer.max_steps={size.steps // 2}", "trainer.val_every=5"]
    raw: dict[str, Any] = {"look_seconds": [], "gap_seconds": [], "step_seconds": [], "shares": []}
    ours(config(WARM + 3))
    for turn in range(size.pairs):
        plain, _ = ours(compose([*fixed, "trainer.health_every=1000000000"]).cfg)
        looked, _ = ours(compose([*fixed, "trainer.health_every=1"]).cfg)
        without, with_gap = (
            ours(compose([*often, f"trainer.gap_samples={count}"]).cfg)[1].evaluating_seconds
            for count in (0, default.gap_samples)
        )
        evaluations = size.steps // 2 // 5
        raw["step_seconds"].append(plain)
        raw["look_seconds"].append(looked - plain)
        raw["gap_seconds"].append((with_gap - without) / evaluations)
        a_second = raw["look_seconds"][-1] / default.health_every + raw["gap_seconds"][-1] / default.val_every
        raw["shares"].append(a_second / plain)
        say(
            f"turn {turn + 1} of {size.pairs}: a look {1e3 * raw['look_seconds'][-1]:.1f} ms, the gap "
            f"{1e3 * raw['gap_seconds'][-1]:.1f} ms, a step {1e3 * plain:.1f} ms"
        )
    shares = sorted(raw["shares"])
    row = Row("f", "looks at the layers and the gap / training", statistics.median(shares), "%")
    return raw, [replace(row, low=shares[0], high=shares[-1], relation="<=", goal=0.02)]

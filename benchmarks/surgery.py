"""Part h: what hosting a network costs in a step, and what a layer costs that stands where a function was called."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.results import Row, ratio_row
from benchmarks.steps import WARM
from denoise.config.compose import compose
from denoise.foreign.host import Host
from denoise.training.build import build_parts

Say = Callable[[str], None]
SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Size:
    """Pairs of steps, images in a step, channels of the networks."""

    pairs: int
    batch: int
    width: int


SIZES = {"full": Size(60, 8, 64), "quick": Size(4, 2, 16)}


class Functional(nn.Module):
    """A residual network that calls its activations as functions: eight blocks, the noise level added in each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(16))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(16))
        self.time = nn.Linear(1, width)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, told = self.first(x), F.silu(self.time(t[:, None] / 1000))[:, :, None, None]
        for i in range(0, 16, 2):
            inner = self.convs[i](F.silu(self.norms[i](h))) + told
            h = h + self.convs[i + 1](F.silu(self.norms[i + 1](inner)))
        found: Tensor = self.last(h)
        return found


def measure(size: Size, say: Say) -> tuple[dict[str, Any], list[Row]]:
    """Time steps of the bare network, of a copy of it, and of what stands in the host, in turns."""
    raw: dict[str, Any] = {}
    rows = []
    for name, net, goal in (
        ("a UNet2DModel as built in the host", unet(size.width), 1.02),
        ("functions replaced by layers", Functional(size.width), 1.05),
    ):
        host = Host(copy.deepcopy(net), SHAPE)
        if goal == 1.05:
            host.operate(build_parts(compose(["model=diffusers", "model.path=none", "activation=silu"]).cfg))
        c_noise, images = torch.linspace(-0.6, 0.6, size.batch), torch.randn(size.batch, *SHAPE)
        steps = {"bare": Step(net, images, host.time_of(c_noise)), "host": Step(host, images, c_noise)}
        steps["again"] = Step(copy.deepcopy(net), images, host.time_of(c_noise))
        seconds: dict[str, list[float]] = {each: [] for each in steps}
        for number in range(WARM + size.pairs):
            for each in sorted(steps, reverse=bool(number % 2)):
                taken = steps[each].seconds()
                seconds[each] += [taken] if number >= WARM else []
        ratios = {each: [a / b for a, b in zip(seconds[each], seconds["bare"], strict=True)] for each in steps}
        rows += [
            ratio_row("h", f"{name}, by the bare network", ratios["host"], "<=", goal),
            ratio_row("h", "that bare network's copy, by the bare network", ratios["again"]),
        ]
        raw[name] = seconds
        say(f"{name}: {rows[-2].value:.3f}; a copy of the bare network: {rows[-1].value:.3f}")
    return raw, rows


def unet(width: int) -> nn.Module:
    """A small UNet2DModel of diffusers, with attention at its lower resolution."""
    from diffusers import UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    made: Any = UNet2DModel(
        sample_size=32, block_out_channels=(width, 2 * width), layers_per_block=2, norm_num_groups=8, **blocks
    )
    return made


class Step:
    """A training step of a network: forward, backward, AdamW."""

    def __init__(self, net: nn.Module, *inputs: Tensor) -> None:
        self.net, self.inputs, self.target = net.train(), inputs, torch.randn_like(inputs[0])
        self.optimizer = torch.optim.AdamW(net.parameters(), 1e-4, fused=True)

    def seconds(self) -> float:
        """Take one."""
        began = time.perf_counter()
        self.optimizer.zero_grad()
        output = self.net(*self.inputs)
        output = output if isinstance(output, Tensor) else output.sample
        F.mse_loss(output, self.target).backward()
        self.optimizer.step()
        return time.perf_counter() - began

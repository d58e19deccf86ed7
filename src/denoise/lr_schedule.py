"""Learning-rate schedules. Call shape: (optimizer, max_steps) -> LRScheduler, stepped once per optimizer step."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, max_steps: int) -> LambdaLR:
    """lr(t) = lr."""
    return LambdaLR(optimizer, lambda step: 1.0)


def warmup_cosine_factor(step: int, max_steps: int, warmup: float, final: float) -> float:
    """t/w up to w = warmup max_steps, then final + (1 - final) (1 + cos(pi (t - w) / (T - w))) / 2; t counts from 1."""
    ramp = max(1, round(warmup * max_steps))
    if step < ramp:
        return (step + 1) / ramp
    progress = min(1.0, (step - ramp) / max(1, max_steps - ramp))
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def warmup_cosine(optimizer: Optimizer, max_steps: int, warmup: float = 0.1, final: float = 0.0) -> LambdaLR:
    """lr(t): linear from 0 over the first `warmup` of the steps, then half a cosine down to `final` lr.

    Loshchilov & Hutter 2017, arXiv:1608.03983, with the linear warm-up of Goyal et al. 2017, arXiv:1706.02677.
    """
    return LambdaLR(optimizer, partial(warmup_cosine_factor, max_steps=max_steps, warmup=warmup, final=final))

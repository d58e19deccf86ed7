"""Learning-rate schedules. Call shape: (optimizer, max_steps) -> LRScheduler, stepped once per optimizer step.

Each is a factor on the optimizer's own lr; in the formulas t = 0, 1, ..., T - 1 counts the steps that are done.
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def _part(step: int, start: int, end: int) -> float:
    """(step - start) / (end - start), kept in [0, 1]: how much of the way is done; 1 where there is no way."""
    return min(1.0, max(0.0, (step - start) / (end - start))) if end > start else 1.0


def _fall(final: float, left: float) -> float:
    """Final + (1 - final) left: from 1 to `final` as `left` goes from 1 to 0."""
    return final + (1 - final) * left


def _half_cosine(progress: float) -> float:
    """(1 + cos(pi progress)) / 2: from 1 down to 0."""
    return (1 + math.cos(math.pi * progress)) / 2


def constant(optimizer: Optimizer, max_steps: int) -> LambdaLR:
    """lr(t) = lr."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, max_steps: int, final: float = 0.0) -> LambdaLR:
    """lr(t) = final + (1 - final) (1 + cos(pi t / T)) / 2, times lr. Loshchilov & Hutter 2017, arXiv:1608.03983."""
    return LambdaLR(optimizer, lambda step: _fall(final, _half_cosine(_part(step, 0, max_steps))))


def linear(optimizer: Optimizer, max_steps: int, final: float = 0.0) -> LambdaLR:
    """lr(t) = final + (1 - final) (1 - t / T), times lr. Defazio et al. 2023, arXiv:2310.07831."""
    return LambdaLR(optimizer, lambda step: _fall(final, 1 - _part(step, 0, max_steps)))


def warmup_cosine(optimizer: Optimizer, max_steps: int, warmup: float = 0.1, final: float = 0.0) -> LambdaLR:
    """lr(t) = (t + 1) / ramp over the first ramp = `warmup` T steps, then half a cosine from 1 to `final`, times lr.

    The first step has lr / ramp, not 0. Loshchilov & Hutter 2017, arXiv:1608.03983, with the linear warm-up of Goyal
    et al. 2017, arXiv:1706.02677.
    """
    return _warmed(
        optimizer, max_steps, warmup, lambda step, ramp: _fall(final, _half_cosine(_part(step, ramp, max_steps)))
    )


def warmup_stable_decay(
    optimizer: Optimizer, max_steps: int, warmup: float = 0.05, decay: float = 0.2, final: float = 0.0
) -> LambdaLR:
    """lr(t) = (t + 1) / ramp over the first ramp = `warmup` T steps, 1, then 1 - sqrt(p) over `decay` T, times lr.

    The first step has lr / ramp, not 0; p in [0, 1] is the progress of the decay, down to `final` lr at the end.
    Hu et al. 2024, arXiv:2404.06395, with the cooldown of Hägele et al. 2024, arXiv:2405.18392. A warm-up that
    reaches into the decay shortens it.
    """
    last = max_steps - round(decay * max_steps)

    def after(step: int, ramp: int) -> float:
        hold = max(ramp, last)
        return 1.0 if step <= hold else _fall(final, 1 - math.sqrt(_part(step, hold, max_steps)))

    return _warmed(optimizer, max_steps, warmup, after)


def one_cycle(
    optimizer: Optimizer, max_steps: int, peak: float = 0.3, start: float = 0.04, final: float = 0.0
) -> LambdaLR:
    """lr(t): half a cosine up from `start` lr to lr at the (`peak` T)-th step, then half a cosine down to `final` lr.

    The first step has `start` lr, the last `final` lr; peak T is rounded to a step.
    Smith & Topin 2017, arXiv:1708.07120, with cosines for their straight lines, as is usual now. Their momentum, which
    falls as the rate rises, is left out: not every optimizer has one, and Adam's b1 is not what they cycled.
    """
    top = max(1, round(peak * max_steps)) - 1

    def factor(step: int) -> float:
        if step < top:
            return _fall(start, 1 - _half_cosine(_part(step, 0, top)))
        return 1.0 if step == top else _fall(final, _half_cosine(_part(step, top, max_steps - 1)))

    return LambdaLR(optimizer, factor)


def _warmed(optimizer: Optimizer, max_steps: int, warmup: float, after: Callable[[int, int], float]) -> LambdaLR:
    """(t + 1) / ramp in the first `ramp` = warmup T steps, at least one, then after(t, ramp)."""
    ramp = max(1, round(warmup * max_steps))
    return LambdaLR(optimizer, lambda step: (step + 1) / ramp if step < ramp else after(step, ramp))

"""The formula of every lr_schedule, in float64."""

import math
from collections.abc import Callable


def warmup_cosine(t: int, max_steps: int, warmup: float, final: float) -> float:
    """t = 1, 2, ... counts the updates. The first `ramp` of them rise to 1, the next starts the cosine at 1."""
    ramp = max(1, round(warmup * max_steps))
    if t <= ramp:
        return t / ramp
    angle = math.pi * (t - 1 - ramp) / max(1, max_steps - ramp)
    return final + (1 - final) * math.cos(min(angle, math.pi) / 2) ** 2


def cosine(t: int, max_steps: int, final: float) -> float:
    return final + (1 - final) * math.cos(math.pi * (t - 1) / max_steps / 2) ** 2


def linear(t: int, max_steps: int, final: float) -> float:
    done = (t - 1) / max_steps
    return (1 - done) + done * final


def one_cycle(t: int, max_steps: int, peak: float, start: float, final: float) -> float:
    """Update `top` has the whole rate, the first `start` of it, the last `final`; the one at the top wins."""
    top = max(1, round(peak * max_steps))
    if t <= top:
        return start + (1 - start) * math.sin(math.pi * (t - 1) / (top - 1) / 2) ** 2 if t < top else 1.0
    return final + (1 - final) * math.cos(math.pi * (t - top) / (max_steps - top) / 2) ** 2


def warmup_stable_decay(t: int, max_steps: int, warmup: float, decay: float, final: float) -> float:
    """The first `ramp` updates rise to 1; the first after `hold` is still at 1, and then the fall begins."""
    ramp = max(1, round(warmup * max_steps))
    hold = max(ramp, max_steps - round(decay * max_steps))
    if t <= ramp:
        return t / ramp
    if t <= hold + 1:
        return 1.0
    return 1.0 - (1 - final) * math.sqrt((t - 1 - hold) / (max_steps - hold))


# (t, max_steps, **parameters) -> the factor on the learning rate of update t
LR_SCHEDULE: dict[str, Callable[..., float]] = {
    "constant": lambda t, max_steps: 1.0,
    "cosine": cosine,
    "linear": linear,
    "one_cycle": one_cycle,
    "warmup_cosine": warmup_cosine,
    "warmup_stable_decay": warmup_stable_decay,
}

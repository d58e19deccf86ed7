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


# (t, max_steps, **parameters) -> the factor on the learning rate of update t
LR_SCHEDULE: dict[str, Callable[..., float]] = {
    "constant": lambda t, max_steps: 1.0,
    "warmup_cosine": warmup_cosine,
}

"""The formulas of every option, written from the papers in float64 and apart from the code that they test.

An option without a formula here fails its contract test: add one small function to its kind's table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch
from torch import Tensor

Weights = dict[str, Tensor]


def find(table: dict[str, Any], kind: str, option: str) -> Any:
    """The formula of an option; where there is none, fail with the line to write."""
    if option not in table:
        pytest.fail(f"tests/formulas.py: no formula for {kind}={option}; add one to {kind.upper()}", pytrace=False)
    return table[option]


# ---------------------------------------------------------------- activation: (x, **parameters) -> f(x)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def tanh(x: Tensor) -> Tensor:
    return 1 - 2 / (1 + (2 * x).exp())


def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    return ((-(beta * x).abs()).exp().log1p() + (beta * x).clamp(min=0)) / beta


def normal_cdf(x: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(scipy.special.ndtr(x.numpy())))


def leaky(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def elu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * (x.exp() - 1))


ACTIVATION: dict[str, Callable[..., Tensor]] = {
    "elu": elu,
    "gelu": lambda x: x * normal_cdf(x),
    "leaky_relu": lambda x, negative_slope: leaky(x, negative_slope),
    "mish": lambda x: x * tanh(softplus(x)),
    "prelu": lambda x, init: leaky(x, init),
    "relu": lambda x: (x + x.abs()) / 2,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "softplus": softplus,
    "swish": lambda x, beta: x * sigmoid(beta * x),
    "tanh": tanh,
}


# ---------------------------------------------------------------- normalization


def moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    mean = x.mean(dim=dims, keepdim=True)
    return mean, ((x - mean) ** 2).mean(dim=dims, keepdim=True)


def affine(x: Tensor, w: Weights) -> Tensor:
    return x * w["weight"] + w["bias"]


def group_norm(x: Tensor, w: Weights, training: bool, num_groups: int, eps: float) -> Tensor:
    batch, places, channels = x.shape
    groups = math.gcd(num_groups, channels)
    cut = x.reshape(batch, places, groups, channels // groups)
    mean, var = moments(cut, (1, 3))
    return affine(((cut - mean) / (var + eps).sqrt()).reshape(x.shape), w)


def layer_norm(x: Tensor, w: Weights, training: bool, eps: float) -> Tensor:
    mean, var = moments(x, (2,))
    return affine((x - mean) / (var + eps).sqrt(), w)


def rms_norm(x: Tensor, w: Weights, training: bool, eps: float) -> Tensor:
    return x / ((x**2).mean(dim=2, keepdim=True) + eps).sqrt() * w["weight"]


def batch_norm(x: Tensor, w: Weights, training: bool, eps: float, momentum: float) -> Tensor:
    mean, var = moments(x, (0, 1)) if training else (w["running_mean"], w["running_var"])
    return affine((x - mean) / (var + eps).sqrt(), w)


# (x of shape (B, positions, C), the module's parameters and buffers by their last name, training, **parameters)
NORMALIZATION: dict[str, Callable[..., Tensor]] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "none": lambda x, w, training: x,
    "rms_norm": rms_norm,
}


# ---------------------------------------------------------------- weight_normalization


def weight_norm(w: Weights) -> Tensor:
    g, v = w["original0"], w["original1"]
    length = (v.flatten(1) ** 2).sum(dim=1).sqrt()
    return g * v / length.reshape(g.shape)


# (the module's parameters by their last name, without the bias, **parameters) -> the weight that it uses
WEIGHT_NORMALIZATION: dict[str, Callable[..., Tensor]] = {
    "none": lambda w: w["weight"],
    "weight_norm": weight_norm,
}


# ---------------------------------------------------------------- initializer


@dataclass(frozen=True)
class Law:
    """The distribution of one entry of a weight; `bound` is the largest absolute value that it can have."""

    variance: float
    bound: float
    mean: float = 0.0


def uniform(variance: float) -> Law:
    return Law(variance, math.sqrt(3 * variance))


def normal(variance: float) -> Law:
    return Law(variance, math.inf)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def gain_of(gain: float | str, activation: str) -> float:
    """The gain that a word means: E[gain^2 f(z)^2] = 1, z ~ N(0, 1), by quadrature; torch's is 5/3 for tanh."""
    if gain == "auto":
        f = ACTIVATION[activation]

        def integrand(z: float) -> float:
            value = f(torch.tensor([z], dtype=torch.float64)).item()
            return value**2 * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

        return scipy.integrate.quad(integrand, -12, 12, points=[0.0], limit=200)[0] ** -0.5
    if gain == "torch":
        return {"tanh": 5 / 3, "relu": math.sqrt(2), "sigmoid": 1.0}[activation]
    return float(gain)


def xavier(law: Callable[[float], Law]) -> Callable[..., Law]:
    return lambda shape, gain: law(gain**2 * 2 / sum(fans(shape)))


def kaiming(law: Callable[[float], Law]) -> Callable[..., Law]:
    return lambda shape, gain: law(gain**2 / fans(shape)[0])


# (shape, **parameters, with `gain` already a number) -> Law
INITIALIZER: dict[str, Callable[..., Law]] = {
    "kaiming_normal": kaiming(normal),
    "kaiming_uniform": kaiming(uniform),
    "normal": lambda shape, std: normal(std**2),
    "orthogonal": lambda shape, gain: Law(gain**2 / max(shape[0], fans(shape)[0]), math.inf),
    "torch_default": lambda shape: uniform(1 / (3 * fans(shape)[0])),
    "xavier_normal": xavier(normal),
    "xavier_uniform": xavier(uniform),
    "zeros": lambda shape: Law(0.0, 0.0),
}


# ---------------------------------------------------------------- feed_forward


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return torch.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def mlp(x: Tensor, w: Weights, act: Callable[[Tensor], Tensor]) -> Tensor:
    return linear(act(linear(x, w, "hidden")), w, "out")


def gated(gate: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def glu(x: Tensor, w: Weights, act: Callable[[Tensor], Tensor]) -> Tensor:
        both = linear(x, w, "hidden")
        half = both.shape[-1] // 2
        return linear(gate(both[..., :half]) * both[..., half:], w, "out")

    return glu


# (x, the module's weights by name, the formula of the chosen activation) -> output
FEED_FORWARD: dict[str, Callable[..., Tensor]] = {
    "geglu": gated(ACTIVATION["gelu"]),
    "mlp": mlp,
    "swiglu": gated(ACTIVATION["silu"]),
}


# ---------------------------------------------------------------- optimizer


@dataclass(frozen=True)
class Rule:
    """An optimizer's updates: (w, gradient, steps, **parameters) -> the weights after each step.

    `tolerance` is relative to an update's size; more than rounding only where a paper's own arithmetic is coarse.
    """

    run: Callable[..., list[Tensor]]
    tolerance: float = 1e-6


def sgd(w, gradient, steps, lr, weight_decay, momentum=0.0, **how):
    met, m = [], torch.zeros_like(w)
    for _ in range(steps):
        m = momentum * m + gradient(w) + weight_decay * w
        w = w - lr * m
        met.append(w)
    return met


def adam(w, gradient, steps, lr, betas, eps, weight_decay, decoupled=False, **how):
    (b1, b2), met = betas, []
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w) + (0 if decoupled else weight_decay * w)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        w = w * (1 - lr * weight_decay) if decoupled else w
        w = w - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
        met.append(w)
    return met


def nadam(w, gradient, steps, lr, betas, eps, weight_decay, momentum_decay=4e-3, **how):
    """Dozat's schedule of momenta, mu_t = b1 (1 - 0.96^(t psi) / 2), and its product as bias correction."""
    (b1, b2), met, product = betas, [], 1.0
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, steps + 1):
        now, after = (b1 * (1 - 0.5 * 0.96 ** (s * momentum_decay)) for s in (t, t + 1))
        product *= now
        g = gradient(w) + weight_decay * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        ahead = after * m / (1 - product * after) + (1 - now) * g / (1 - product)
        w = w - lr * ahead / ((v / (1 - b2**t)).sqrt() + eps)
        met.append(w)
    return met


def rmsprop(w, gradient, steps, lr, alpha, eps, weight_decay, **how):
    met, v = [], torch.zeros_like(w)
    for _ in range(steps):
        g = gradient(w) + weight_decay * w
        v = alpha * v + (1 - alpha) * g**2
        w = w - lr * g / (v.sqrt() + eps)
        met.append(w)
    return met


def lion(w, gradient, steps, lr, betas, weight_decay, **how):
    (b1, b2), met, m = betas, [], torch.zeros_like(w)
    for _ in range(steps):
        g = gradient(w)
        w = w * (1 - lr * weight_decay) - lr * torch.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g
        met.append(w)
    return met


def newton_schulz(g: Tensor) -> Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / g.norm()
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


def muon(w, gradient, steps, lr, momentum, betas, weight_decay, **how):
    """Matrices by Newton-Schulz with Nesterov's momentum; what has one dimension by AdamW."""
    if w.ndim < 2:
        return adam(w, gradient, steps, lr, betas, 1e-10, weight_decay, decoupled=True)
    met, m = [], torch.zeros_like(w)
    for _ in range(steps):
        g = gradient(w)
        m = momentum * m + (1 - momentum) * g
        ahead = momentum * m + (1 - momentum) * g
        scale = 0.2 * math.sqrt(max(w.shape[0], w[0].numel()))
        step = newton_schulz(ahead.flatten(1)).reshape(w.shape)
        w = w * (1 - lr * weight_decay) - lr * scale * step
        met.append(w)
    return met


OPTIMIZER: dict[str, Rule] = {
    "adam": Rule(adam),
    "adamw": Rule(lambda *args, **p: adam(*args, decoupled=True, **p)),
    "lion": Rule(lion),
    "momentum": Rule(sgd),
    "muon": Rule(muon, tolerance=0.03),  # the iteration runs in bfloat16
    "nadam": Rule(nadam),
    "rmsprop": Rule(rmsprop),
    "sgd": Rule(sgd),
}


# ---------------------------------------------------------------- lr_schedule


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

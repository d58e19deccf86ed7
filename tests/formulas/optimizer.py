"""The formula of every optimizer, in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


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

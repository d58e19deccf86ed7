"""The formula of every optimizer, in float64."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """An optimizer's updates: (w, gradient, steps, **parameters) -> the weights after each step.

    `gradient` is called once a step, before anything else, and may change `lr` where that is a tensor: a schedule.
    `hessian`, the diagonal of the problem's at w, comes with the parameters. Where an update moves nothing by design,
    the weights are those of before. `tolerance` is relative to an update's size; more than rounding only where a
    paper's own arithmetic is coarse. `given` are parameters to compare at, where the defaults' updates are not unique.
    """

    run: Callable[..., list[Tensor]]
    tolerance: float = 1e-6
    given: Mapping[str, Any] = field(default_factory=dict)


def sgd(w, gradient, steps, lr, weight_decay, momentum=0.0, nesterov=False, **how):
    met, m = [], torch.zeros_like(w)
    for _ in range(steps):
        g = gradient(w) + weight_decay * w
        m = momentum * m + g
        w = w - lr * (g + momentum * m if nesterov else m)
        met.append(w)
    return met


def adam(w, gradient, steps, lr, betas, eps, weight_decay, decoupled=False, amsgrad=False, corrected=True, **how):
    (b1, b2), met = betas, []
    m, v, largest = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w) + (0 if decoupled else weight_decay * w)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        largest = torch.maximum(largest, v) if amsgrad else v
        w = w * (1 - lr * weight_decay) if decoupled else w
        c1, c2 = (1 - b1**t, 1 - b2**t) if corrected else (1, 1)
        w = w - lr * (m / c1) / ((largest / c2).sqrt() + eps)
        met.append(w)
    return met


def adagrad(w, gradient, steps, lr, lr_decay, eps, weight_decay, **how):
    met, v = [], torch.zeros_like(w)
    for t in range(steps):
        g = gradient(w) + weight_decay * w
        v = v + g**2
        w = w - lr / (1 + t * lr_decay) * g / (v.sqrt() + eps)
        met.append(w)
    return met


def adadelta(w, gradient, steps, lr, rho, eps, weight_decay, **how):
    met, v, u = [], torch.zeros_like(w), torch.zeros_like(w)
    for _ in range(steps):
        g = gradient(w) + weight_decay * w
        v = rho * v + (1 - rho) * g**2
        d = (u + eps).sqrt() / (v + eps).sqrt() * g
        u = rho * u + (1 - rho) * d**2
        w = w - lr * d
        met.append(w)
    return met


def adamax(w, gradient, steps, lr, betas, eps, weight_decay, **how):
    (b1, b2), met = betas, []
    m, u = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w) + weight_decay * w
        m = b1 * m + (1 - b1) * g
        u = torch.maximum(b2 * u, g.abs() + eps)
        w = w - lr / (1 - b1**t) * m / u
        met.append(w)
    return met


def radam(w, gradient, steps, lr, betas, eps, weight_decay, **how):
    """rho_t is how many gradients v averages; it has a variance, and the update a rectified one, from rho_t = 5 on."""
    (b1, b2), met = betas, []
    m, v, most = torch.zeros_like(w), torch.zeros_like(w), 2 / (1 - betas[1]) - 1
    for t in range(1, steps + 1):
        g = gradient(w) + weight_decay * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        rho = most - 2 * t * b2**t / (1 - b2**t)
        update = m / (1 - b1**t)
        if rho > 5:
            r = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
            update = r * update / ((v.sqrt() + eps) / math.sqrt(1 - b2**t))
        w = w - lr * update
        met.append(w)
    return met


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def adafactor(w, gradient, steps, lr, beta2_decay, eps, d, weight_decay, **how):
    """v = row column^T / mean(row), the last two dimensions of g^2; its decay grows as 1 - t^beta2_decay."""
    tiny, met = torch.finfo(w.dtype).eps, []
    full, row, column = torch.zeros_like(w), 0.0, 0.0
    for t in range(1, steps + 1):
        g, b = gradient(w), 1 - t**beta2_decay
        if w.ndim > 1:
            row = b * row + (1 - b) * g.square().mean(dim=-1, keepdim=True)
            column = b * column + (1 - b) * g.square().mean(dim=-2, keepdim=True)
            v = row * column / row.mean(dim=-2, keepdim=True).clamp(min=tiny)
        else:
            v = full = b * full + (1 - b) * g.square()
        u = g / v.clamp(min=tiny**2).sqrt()
        size = max(eps[1], rms(w)) * min(lr, t**-0.5)
        w = w * (1 - lr * weight_decay) - size * u / max(1, rms(u) / d)
        met.append(w)
    return met


def lamb(w, gradient, steps, lr, betas, eps, weight_decay, **how):
    (b1, b2), met = betas, []
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for _ in range(steps):
        g = gradient(w)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        u = m / (v.sqrt() + eps) + weight_decay * w
        w = w - lr * (min(w.norm(), 10) / (u.norm() + eps) if w.any() and u.any() else 1) * u
        met.append(w)
    return met


def adan(w, gradient, steps, lr, betas, eps, weight_decay, **how):
    (b1, b2, b3), met, before = betas, [], None
    m, d, n = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w)
        change = torch.zeros_like(g) if before is None else g - before
        m = b1 * m + (1 - b1) * g
        d = b2 * d + (1 - b2) * change
        n = b3 * n + (1 - b3) * (g + b2 * change) ** 2
        ahead = m / (1 - b1**t) + b2 * d / (1 - b2**t)
        w = (w - lr * ahead / ((n / (1 - b3**t)).sqrt() + eps)) / (1 + lr * weight_decay)
        met.append(w)
        before = g
    return met


def adopt(w, gradient, steps, lr, betas, eps, weight_decay, **how):
    """The first gradient gives v and moves nothing; v takes a gradient in after it was used."""
    (b1, b2), met = betas, []
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w)
        if t == 1:
            v = g**2
        else:
            bound = (t - 1) ** 0.25
            m = b1 * m + (1 - b1) * (g / v.sqrt().clamp(min=eps)).clamp(-bound, bound)
            w = (1 - lr * weight_decay) * w - lr * m
            v = b2 * v + (1 - b2) * g**2
        met.append(w)
    return met


def prodigy(w, gradient, steps, lr, betas, eps, d0, d_coef, weight_decay, **how):
    """Algorithm 4 of the paper, b3 = sqrt(b2), a step of d lr in the distance and in its divisor; none while s is 0."""
    (b1, b2), met, w0, d, largest, r = betas, [], w, d0, d0, 0.0
    m, v, s, b3 = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w), math.sqrt(betas[1])
    for _ in range(steps):
        g = gradient(w)
        r = b3 * r + d / d0 * d * lr * (g * (w0 - w)).sum().item()
        s = b3 * s + d / d0 * d * lr * g
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d**2 * g**2
        if s.any():
            step, estimate = d * lr, d_coef * r / s.abs().sum().item()
            d = largest = max(largest, estimate)
            w = w * (1 - step * weight_decay) - step * m / (v.sqrt() + d * eps)
        met.append(w)
    return met


def schedule_free(w, gradient, steps, lr, betas, eps, weight_decay, **how):
    """x, y and z as three sequences; the weights that are trained are y."""
    (b1, b2), met, largest, total = betas, [], 0.0, 0.0
    x, y, z, v = w, w, w, torch.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(y)
        v = b2 * v + (1 - b2) * g**2
        z = z - lr * (g / ((v / (1 - b2**t)).sqrt() + eps) + weight_decay * y)
        largest = max(largest, float(lr))
        total += largest**2
        c = largest**2 / total
        x = (1 - c) * x + c * z
        y = (1 - b1) * z + b1 * x
        met.append(y)
    return met


def unfold(w: Tensor, mode: int) -> Tensor:
    return w.movedim(mode, 0).reshape(w.shape[mode], -1)


def along(w: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """The product of `matrix` with the mode of w."""
    other = w.movedim(mode, 0)
    return (matrix @ unfold(w, mode)).reshape(matrix.shape[0], *other.shape[1:]).movedim(0, mode)


def shampoo(w, gradient, steps, lr, betas, eps, weight_decay, matrix_eps, **how):
    if w.ndim < 2:
        return adam(w, gradient, steps, lr, betas, eps, weight_decay, decoupled=True)
    (b1, b2), met, k = betas, [], w.ndim
    m, v, statistics = torch.zeros_like(w), torch.zeros_like(w), [0.0] * w.ndim
    for t in range(1, steps + 1):
        g = gradient(w)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        adams = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
        u = m
        for mode in range(k):
            statistics[mode] = b2 * statistics[mode] + (1 - b2) * unfold(g, mode) @ unfold(g, mode).T
            values, vectors = torch.linalg.eigh(statistics[mode])
            values = (values.clamp(min=0) + matrix_eps * values.max() + 1e-30) ** (-1 / (2 * k))
            u = along(u, vectors @ values.diag() @ vectors.T, mode)
        w = w * (1 - lr * weight_decay) - lr * (adams.norm() / u.norm() * u if u.any() else u)
        met.append(w)
    return met


def soap(w, gradient, steps, lr, betas, eps, weight_decay, max_precondition_dim, **how):
    """The first gradient gives the bases and moves nothing; decay comes after the step."""
    (b1, b2), met, bases = betas, [], []
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    modes = [mode for mode in range(w.ndim) if w.ndim > 1 and w.shape[mode] <= max_precondition_dim]

    def lock(x: Tensor, back: bool = False) -> Tensor:
        for mode, basis in zip(modes, bases, strict=True):
            x = along(x, basis if back else basis.T, mode)
        return x

    for t in range(steps):
        g = gradient(w)
        if t == 0:
            bases = [torch.linalg.eigh((1 - b2) * unfold(g, mode) @ unfold(g, mode).T)[1] for mode in modes]
        else:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * lock(g) ** 2
            size = lr * math.sqrt(1 - b2**t) / (1 - b1**t)
            w = (w - size * lock(lock(m) / (v.sqrt() + eps), back=True)) * (1 - lr * weight_decay)
        met.append(w)
    return met


def sophia(w, gradient, steps, lr, betas, gamma, eps, weight_decay, every, hessian, **how):
    (b1, b2), met = betas, []
    m, h = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(steps):
        g = gradient(w)
        m = b1 * m + (1 - b1) * g
        h = b2 * h + (1 - b2) * hessian(w) if t % every == 0 else h
        w = w * (1 - lr * weight_decay) - lr * (m / (gamma * h).clamp(min=eps)).clamp(-1, 1)
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
    x = g / g.norm() if g.any() else g
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
    "adadelta": Rule(adadelta),
    "adafactor": Rule(adafactor),
    "adagrad": Rule(adagrad),
    "adam": Rule(adam),
    "adam_uncorrected": Rule(lambda *args, **p: adam(*args, corrected=False, **p)),
    "adamax": Rule(adamax),
    "adamw": Rule(lambda *args, **p: adam(*args, decoupled=True, **p)),
    "adan": Rule(adan),
    "adopt": Rule(adopt),
    "amsgrad": Rule(adam),
    "lamb": Rule(lamb),
    "lion": Rule(lion),
    "momentum": Rule(sgd),
    "muon": Rule(muon, tolerance=1e-5),  # the iteration runs in float32
    "nadam": Rule(nadam),
    "nesterov": Rule(sgd),
    "prodigy": Rule(prodigy, tolerance=1e-5),  # the distance is kept in float32
    "radam": Rule(radam),
    "rmsprop": Rule(rmsprop),
    "schedule_free_adamw": Rule(schedule_free),
    "sgd": Rule(sgd),
    "shampoo": Rule(shampoo),
    "soap": Rule(
        soap, given={"max_precondition_dim": 8}
    ),  # the null space of 10 x 10 from 6 rows has no basis of its own
    "sophia": Rule(sophia),
}

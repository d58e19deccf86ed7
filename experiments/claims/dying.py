"""Claim 4: units that no longer get a gradient, from a large negative bias or a large learning rate; float32."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from denoise.config import catalog
from denoise.randomness import seeded, stream
from experiments.claims import classifier
from experiments.claims.finding import Check, Finding, Table, short
from experiments.claims.plot import Axis, Line, Panel, Plot

RESTING = ("leaky_relu", "elu", "gelu", "swish", "mish")
ALL = ("relu", *RESTING)
BIASES = (0, -2, -3, -4, -5, -6, -8, -10, -15, -20, -30, -50, -75, -100, -125, -150)
RATES = (0.1, 0.5, 0.7, 1.0)
SEEDS = (0, 1, 2)


def at_bias(activation: str, bias: float, seed: int = 0) -> tuple[float, float]:
    """The RMS gradient of a layer's weights, and the share of its units that get none at all, at a bias.

    64 inputs, 128 units, 512 samples of unit normals, a unit normal gradient from above.
    """
    act, linear = catalog.build("activation", activation), nn.Linear(64, 128)
    with seeded(seed, "claims/weights"):
        catalog.build("initializer", "kaiming_normal", linear.weight, act)
    nn.init.constant_(linear.bias, bias)
    h = act(linear(torch.randn(512, 64, generator=stream(seed, "claims/input"))))
    (h * torch.randn(h.shape, generator=stream(seed, "claims/gradient"))).sum().backward()
    gradient = linear.weight.grad
    assert gradient is not None
    return gradient.square().mean().sqrt().item(), gradient.abs().amax(1).eq(0).float().mean().item()


def slope(activation: str, z: Tensor) -> Tensor:
    """f'(z) by autograd, in the precision of z: (N,) -> (N,)."""
    at = z.clone().requires_grad_()
    act = catalog.build("activation", activation).to(z.dtype)
    (found,) = torch.autograd.grad(act(at).sum(), at)
    return found


def silent_below(activation: str, lowest: float = -200.0) -> float:
    """The z below which f'(z) is exactly 0 in float32, on a grid of quarters down to `lowest`; -inf: none."""
    z = torch.arange(lowest, 0.25, 0.25)
    alive = slope(activation, z).ne(0).nonzero()
    if not len(alive):
        return 0.0
    return z[alive[0]].item() if alive[0] else -float("inf")


def dead(model: nn.Sequential) -> float:
    """The share of hidden units whose slope f'(z) is exactly 0 at every training image; NaN where z is not finite."""
    h, shares = classifier.data().images["train"], []
    layers = list(model.children())
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        z = layer(h).detach()
        if isinstance(layer, nn.Linear) and after is not None:
            if not z.isfinite().all():
                return float("nan")
            z = z.requires_grad_()
            (found,) = torch.autograd.grad(after(z).sum(), z)
            shares.append(found.abs().amax(0).eq(0).float().mean().item())
        h = z.detach()
    return sum(shares) / len(shares)


def after_large_rate(activation: str, lr: float, seed: int, large: int = 20, steps: int = 200) -> tuple[float, float]:
    """Dead units and accuracy after `large` steps of sgd at lr and `steps` at 0.1."""
    model = classifier.mlp(activation, "kaiming_normal", seed, (64, 64))
    classifier.fit(model, "sgd", large, seed=seed, lr=lr)
    classifier.fit(model, "sgd", steps, seed=seed + 100, lr=0.1)
    return dead(model), classifier.evaluate(model)[1]


def from_bias(activation: str, bias: float, optimizer: str, lr: float, steps: int = 400) -> float:
    """The accuracy that a classifier of one hidden layer reaches from a bias."""
    model = classifier.mlp(activation, "kaiming_normal", 0, (64,))
    nn.init.constant_(classifier.layers(model)[0].bias, bias)
    classifier.fit(model, optimizer, steps, lr=lr)
    return classifier.evaluate(model)[1]


def mean(values: Sequence[float]) -> float:
    """The mean of the values that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def claim_4() -> Finding:
    """Measure slopes, gradients at biases, dead units after large rates, and who comes back."""
    kept = {name: [at_bias(name, b) for b in BIASES] for name in ALL}
    share = {name: [g / met[0][0] for g, _ in met] for name, met in kept.items()}
    fits = {(n, lr): [after_large_rate(n, lr, s) for s in SEEDS] for n in ALL for lr in RATES}
    died = {key: mean([d for d, _ in runs]) for key, runs in fits.items()}
    at = {b: BIASES.index(b) for b in BIASES}
    least = {b: min(share[n][at[b]] for n in RESTING) for b in (-10, -20, -100)}
    worst = max(RESTING, key=lambda name: died[name, 0.7])
    checks = [
        Check("relu at bias -10: units without any gradient", kept["relu"][at[-10]][1], low=0.99),
        Check("relu after lr 0.7: dead units", died["relu", 0.7], low=0.05),
        Check("the other five at bias -10: units without any gradient, the most of any",
              max(kept[n][at[-10]][1] for n in RESTING), high=0.01),
        Check("the other five at bias -10: least gradient / that at bias 0", least[-10], low=1e-3),
        Check("the other five at bias -20: the same", least[-20], low=1e-3),
        Check("the other five at bias -100: the same", least[-100], low=1e-3),
        Check("leaky_relu at bias -150: the same", share["leaky_relu"][at[-150]], low=1e-3),
        Check("leaky_relu after lr 0.7: dead units", died["leaky_relu", 0.7], high=0.01),
        Check(f"the other five after lr 0.7: dead units, the most of any ({worst})", died[worst, 0.7], high=0.01),
    ]  # fmt: skip
    far = torch.tensor([-2.0, -5.0, -10.0, -20.0, -50.0, -100.0])
    shown = (-3, -5, -10, -20, -50, -100, -150)
    back = [(opt, lr, b) for opt, lr in (("sgd", 0.1), ("adam", 0.002)) for b in (-5, -10)]
    return Finding(
        checks=checks,
        tables=[
            Table("The slope f'(z) in float32, and the z below which it is exactly 0 (to a quarter).",
                  ["activation", *(f"z = {z:g}" for z in far), "0 below"],
                  [[f"`{n}`", *map(short, slope(n, far).tolist()), lowest(silent_below(n))] for n in ALL]),
            Table("RMS gradient of a layer's weights at a bias, over that at bias 0.",
                  ["activation", *(f"{b}" for b in shown)],
                  [[f"`{n}`", *(short(share[n][at[b]]) for b in shown)] for n in ALL]),
            Table("Dead units after 20 steps at a large learning rate and 200 at 0.1, mean of three seeds (least to "
                  "largest); then validation accuracy likewise.", ["activation", *(f"lr {lr:g}" for lr in RATES)],
                  [[f"`{n}`", *(rate_cell(fits[n, lr]) for lr in RATES)] for n in ALL]),
            Table("Who comes back: validation accuracy of a classifier 64-64-10 whose hidden biases start there, after "
                  "400 steps, one seed.", ["activation", *(f"{opt} lr {lr:g}, bias {b}" for opt, lr, b in back)],
                  [[f"`{n}`", *(f"{from_bias(n, b, opt, lr):.0%}" for opt, lr, b in back)] for n in ALL]),
        ],
        plot=Plot("Claim 4: units that die", [
            Panel("gradient at a bias / that at bias 0", Axis("-bias"), Axis("0 lies on the floor", True, 1e-12),
                  [Line(n, [-b for b in BIASES], share[n]) for n in ALL]),
            Panel("dead units after a large learning rate", Axis("lr"), Axis("share, mean of 3 seeds", low=0, high=1),
                  [Line(n, RATES, [died[n, lr] for lr in RATES]) for n in ALL]),
        ]),
        values={f"{n}, lr {lr:g}": [[plain(d), a] for d, a in runs] for (n, lr), runs in fits.items()},
    )  # fmt: skip


def plain(value: float) -> float | None:
    """A share, None where the training left no finite numbers."""
    return None if math.isnan(value) else value


def lowest(z: float) -> str:
    """Where a slope ends, in words."""
    return "nowhere" if z == -float("inf") else f"{z:g}"


def rate_cell(runs: Sequence[tuple[float, float]]) -> str:
    """Dead units, then accuracy: mean (least to largest) of each; how many trainings left no finite numbers."""
    known = [run for run in runs if not math.isnan(run[0])]
    cells = [f"{mean(v):.0%} ({min(v):.0%} to {max(v):.0%})" for v in zip(*known, strict=True)]
    return "; ".join([*cells, *[f"{len(runs) - len(known)} diverged"] * (len(known) < len(runs))])

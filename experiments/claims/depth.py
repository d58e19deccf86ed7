"""Claims 1 and 2: gradient and variance through a plain stack, without skip connections."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from denoise.config import catalog
from denoise.randomness import seeded, stream
from experiments.claims.finding import Check, Finding, Table, geometric, over_seeds
from experiments.claims.plot import Axis, Line, Panel, Plot

DEPTH, BATCH = 50, 256
SEEDS = (0, 1, 2, 3, 4)
LOSING = ("sigmoid", "tanh")
KIN = ("relu", "leaky_relu", "elu", "gelu", "silu", "mish")
HE = math.sqrt(2)  # the gain that He et al. 2015 derive for relu

Start = tuple[str, Mapping[str, float | str]]  # an initializer and its parameters
XAVIER: Start = ("xavier_normal", {"gain": 1.0})
KAIMING: Start = ("kaiming_normal", {"gain": HE})
AUTO: Start = ("kaiming_normal", {"gain": "auto"})
DEFAULT: Start = ("torch_default", {})


@dataclass(frozen=True)
class Flow:
    """What an activation meets at each layer, first to last: variance of z = norm(W h), and the RMS of dL/dz.

    `weights`: the RMS of dL/d(W h), from which W's gradient is made; without a normalization the same.
    """

    variance: list[float]
    gradient: list[float]
    weights: list[float]

    @property
    def gradient_kept(self) -> float:
        """The first layer's gradient over the last's."""
        return self.gradient[0] / self.gradient[-1]

    @property
    def weights_kept(self) -> float:
        """The same before the normalization."""
        return self.weights[0] / self.weights[-1]

    @property
    def variance_kept(self) -> float:
        """The last layer's variance over the first's."""
        return self.variance[-1] / self.variance[0]


def flow(
    activation: str, start: Start, normalization: str = "none", seed: int = 0, depth: int = DEPTH, width: int = 128
) -> Flow:
    """Pass a unit normal batch through depth times h = act(norm(W h)), and a unit normal gradient back; float64."""
    initializer, parameters = start
    with seeded(seed, "claims/weights"):
        layers = []
        for _ in range(depth):
            act = catalog.build("activation", activation)
            linear = nn.Linear(width, width, bias=False)
            catalog.build("initializer", initializer, linear.weight, act, **parameters)
            layers.append(
                (linear.double(), catalog.build("normalization", normalization, width).double(), act.double())
            )
    h, back = (
        torch.randn(BATCH, 1, width, generator=stream(seed, f"claims/{name}"), dtype=torch.float64)
        for name in ("input", "gradient")
    )
    before: list[Tensor] = []
    met: list[Tensor] = []
    for linear, norm, act in layers:
        before.append(linear(h))
        met.append(norm(before[-1]))
        h = act(met[-1])
    gradients = torch.autograd.grad((h * back).sum(), [*met, *before])
    sizes = [g.square().mean().sqrt().item() for g in gradients]
    return Flow([z.var().item() for z in met], sizes[:depth], sizes[depth:])


def flows(activation: str, start: Start, normalization: str = "none", width: int = 128) -> list[Flow]:
    """One stack for each seed."""
    return [flow(activation, start, normalization, seed, width=width) for seed in SEEDS]


def claim_1() -> Finding:
    """Measure the gradient through 50 layers, by activation, initializer and normalization."""
    ways: dict[str, tuple[Start, str]] = {
        "Xavier": (XAVIER, "none"),
        "He, gain √2": (KAIMING, "none"),
        "`kaiming_normal`, gain auto": (AUTO, "none"),
        "`torch_default`": (DEFAULT, "none"),
        "Xavier and batch_norm": (XAVIER, "batch_norm"),
    }
    all_ = {(name, way): flows(name, *where) for name in (*LOSING, *KIN) for way, where in ways.items()}
    kept = {key: [one.gradient_kept for one in found] for key, found in all_.items()}
    mean = {key: geometric(values) for key, values in kept.items()}
    own, he, _, default, normed = ways
    weights = {name: [one.weights_kept for one in all_[name, normed]] for name in (*LOSING, *KIN)}
    least = min(KIN, key=lambda name: mean[name, he])
    checks = [
        Check("sigmoid, Xavier: gradient at layer 1 / at layer 50", mean["sigmoid", own], high=1e-6),
        Check("tanh, Xavier: the same", mean["tanh", own], high=1e-2),
        Check("tanh, `torch_default`: the same", mean["tanh", default], high=1e-2),
        Check("relu, He: the same", mean["relu", he], low=0.1, high=10),
        Check(f"the least of the kin, He ({least}) / sigmoid, Xavier", mean[least, he] / mean["sigmoid", own], low=1e6),
        Check("relu, He / tanh, Xavier", mean["relu", he] / mean["tanh", own], low=3),
        Check("relu / tanh, both `torch_default`", mean["relu", default] / mean["tanh", default], low=3),
        Check("sigmoid with batch_norm, at norm(W h): gradient at layer 1 / at layer 50", mean["sigmoid", normed],
              low=0.01),
        Check("tanh with batch_norm, at norm(W h): the same", mean["tanh", normed], low=0.01),
        Check("sigmoid with batch_norm, at W h: the same", geometric(weights["sigmoid"]), low=0.01),
        Check("tanh with batch_norm, at W h: the same", geometric(weights["tanh"]), low=0.01),
    ]  # fmt: skip
    numbers = list(range(1, DEPTH + 1))

    def line(name: str, way: str) -> Line:
        course = [geometric(values) for values in zip(*(f.gradient for f in all_[name, way]), strict=True)]
        return Line(name, numbers, [value / course[-1] for value in course])

    def panel(title: str, names: tuple[tuple[str, str], ...]) -> Panel:
        return Panel(title, Axis("layer"), Axis("gradient / that at layer 50", True), [line(*pair) for pair in names])

    textbook = tuple((name, own if name in LOSING else he) for name in (*LOSING, *KIN))
    return Finding(
        checks=checks,
        tables=[
            Table("RMS gradient of norm(W h) at layer 1 over that at layer 50: geometric mean of five seeds, least and "
                  "largest. The last column is of W h, before the normalization: what the weights get.",
                  ["activation", *ways, f"{normed}, at W h"],
                  [[f"`{n}`", *(over_seeds(kept[n, way]) for way in ways), over_seeds(weights[n])]
                   for n in (*LOSING, *KIN)]),
        ],
        plot=Plot("Claim 1: the gradient on its way back", [
            panel("sigmoid, tanh: Xavier; the others: He", textbook),
            panel("torch_default", tuple((name, default) for name in (*LOSING, *KIN))),
            panel("Xavier and batch_norm", tuple((name, normed) for name in (*LOSING, *KIN))),
        ]),
        values={f"{name}, {way}": values for (name, way), values in kept.items()}
        | {f"{name}, {normed}, at W h": values for name, values in weights.items()},
    )  # fmt: skip


def variance_slope(activation: str) -> float:
    """d ln q' / d ln q at q = 1 of q' = gain^2 E[f(sqrt(q) z)^2], z ~ N(0, 1): E[f(z) f'(z) z] / E[f(z)^2].

    At 1 every variance is kept, below it variances come back to 1, above it they run away from 1.
    """
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64, requires_grad=True)
    f = catalog.build("activation", activation).double().eval()(z)
    (slope,) = torch.autograd.grad(f.sum(), z)
    weight = torch.exp(-z.square() / 2)
    return ((weight * f * slope * z).sum() / (weight * f.square()).sum()).item()


def claim_2(width: int = 256) -> Finding:
    """Measure the variance of what each of 50 layers meets, by activation, initializer and gain."""
    xavier: dict[str, Start] = {gain: ("xavier_normal", {"gain": gain}) for gain in ("torch", "auto")}
    ways: dict[str, tuple[str, Start]] = {
        "relu, He (gain √2)": ("relu", KAIMING),
        "relu, He (gain auto)": ("relu", AUTO),
        "relu, Xavier (gain 1)": ("relu", XAVIER),
        "relu, Xavier (gain torch, √2)": ("relu", xavier["torch"]),
        "tanh, Xavier (gain 1)": ("tanh", XAVIER),
        "tanh, Xavier (gain torch, 5/3)": ("tanh", xavier["torch"]),
        "tanh, Xavier (gain auto, 1.59)": ("tanh", xavier["auto"]),
        "tanh, He (gain √2)": ("tanh", KAIMING),
        **{f"{name}, He (gain {word})": (name, start) for name in ("gelu", "silu", "mish")
           for word, start in (("√2", KAIMING), ("auto", AUTO))},
    }  # fmt: skip
    found = {way: flows(*where, width=width) for way, where in ways.items()}
    courses = {way: [geometric(v) for v in zip(*(f.variance for f in one), strict=True)] for way, one in found.items()}
    at = {way: [course[layer - 1] / course[0] for layer in (10, DEPTH)] for way, course in courses.items()}
    relu, _, lost, *_ = ways
    tanh, repaired = "tanh, Xavier (gain 1)", "tanh, Xavier (gain torch, 5/3)"
    last = {way: [one.variance_kept for one in each] for way, each in found.items()}
    checks = [
        Check(f"{relu}: variance at layer 50 / at layer 1", at[relu][1], 0.5, 2),
        Check(f"{lost}: the same", at[lost][1], high=1e-6),
        Check(f"{tanh}: variance at layer 10 / at layer 1", at[tanh][0], 0.5, 2),
        Check(f"{tanh}: variance at layer 50 / at layer 1", at[tanh][1], 0.5, 2),
    ]
    numbers = list(range(1, DEPTH + 1))
    drawn = ["relu, He (gain √2)", "relu, Xavier (gain 1)", tanh, repaired, "tanh, Xavier (gain auto, 1.59)"]
    kin = [way for way in ways if way.startswith(("gelu", "silu", "mish"))]
    return Finding(
        checks=checks,
        tables=[
            Table("Variance of W h over that at layer 1: geometric mean of five seeds, at layer 50 also least and "
                  "largest.", ["stack", "layer 10", "layer 50"],
                  [[way, f"{at[way][0]:.2g}", over_seeds(last[way])] for way in ways]),
            Table("With gain auto a variance of 1 stays 1. By how much one layer multiplies a small deviation from it: "
                  "above 1 it grows.", ["activation", "factor"],
                  [[f"`{name}`", f"{variance_slope(name):.3f}"] for name in (*KIN, *LOSING)]),
        ],
        plot=Plot("Claim 2: the variance on its way forward", [
            Panel(title, Axis("layer"), Axis("variance / that at layer 1", True, low, high),
                  [Line(way, numbers, [v / courses[way][0] for v in courses[way]]) for way in names])
            for title, names, low, high in (("relu and tanh", drawn, 1e-6, 10), ("gelu, silu, mish", kin, 1e-6, 1e6))
        ]),
        values=last,
    )  # fmt: skip

"""Claim 5: limits, smoothness and minima of activations, in float64."""

from functools import partial

import torch
from torch import Tensor, nn

from denoise.config import catalog
from experiments.claims.finding import Check, Finding, Table, short
from experiments.claims.plot import Axis, Line, Panel, Plot

SIGMAS, BETAS = (1.0, 0.3, 0.1, 0.03, 0.01), (0.01, 0.1, 1.0, 3.0, 10.0, 100.0)
BUMPED = ("silu", "gelu", "mish")
FAR = 20.0
STEP = 1e-5  # about which derivatives are compared


def grid(low: float = -FAR, high: float = FAR, count: int = 400_001) -> Tensor:
    """Points of [low, high], zero among them, (count,) in float64."""
    return torch.linspace(low, high, count, dtype=torch.float64)


def build(option: str, **parameters: float) -> nn.Module:
    """An activation in float64, its learned parameters at their start."""
    return catalog.build("activation", option, **parameters).double().eval()


@torch.no_grad()
def distance(f: nn.Module, g: nn.Module, x: Tensor) -> float:
    """max |f(x) - g(x)|."""
    return (f(x) - g(x)).abs().max().item()


def derivative(f: nn.Module, x: Tensor, order: int) -> Tensor:
    """The derivative of first or second order at each point."""
    x = x.clone().requires_grad_()
    y = f(x)
    for _ in range(order):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return y.detach()


def jump(f: nn.Module, order: int, x: Tensor) -> float:
    """The largest change of a derivative between x - STEP and x + STEP: small where it is continuous."""
    return (derivative(f, x + STEP, order) - derivative(f, x - STEP, order)).abs().max().item()


@torch.no_grad()
def minimum(f: nn.Module) -> tuple[float, float]:
    """Where f is smallest on [-20, 20], and its value there."""
    x = grid(count=4_000_001)
    y = f(x)
    return x[y.argmin()].item(), y.min().item()


def claim_5() -> Finding:
    """Measure each limit and each shape on a grid."""
    relu, silu, half = build("relu"), build("silu"), Half()
    x, near = grid(), grid(-3, 3)
    sharp = {sigma: distance(build("gelu_sigma", sigma=sigma), relu, x) for sigma in SIGMAS}
    swish = {beta: build("swish", beta=beta) for beta in BETAS}
    hard = {beta: distance(f, relu, x) for beta, f in swish.items()}
    flat = {beta: distance(f, half, near) for beta, f in swish.items()}
    kinks = {name: [jump(build(name), order, x) for order in (1, 2)] for name in ("softplus", "mish", "elu", "relu")}
    lowest = {name: minimum(build(name)) for name in BUMPED}
    falls = {name: derivative(build(name), grid(-3, -2), 1).max().item() for name in BUMPED}
    far = max(build(name)(grid(-1000, -FAR)).abs().max().item() for name in BUMPED)
    checks = [
        Check("max abs(gelu_sigma - relu), sigma = 0.01", sharp[0.01], high=0.01),
        Check("max abs(swish - relu), beta = 100", hard[100.0], high=0.01),
        Check("max abs(swish - x/2) on [-3, 3], beta = 0.01", flat[0.01], high=0.03),
        Check("max abs(swish(1) - silu)", distance(swish[1.0], silu, x), high=1e-12),
        Check("softplus and mish: largest jump of f' or f''", max(*kinks["softplus"], *kinks["mish"]), high=1e-3),
        Check("silu, gelu, mish: largest slope on [-3, -2] (they fall there)", max(falls.values()), high=-1e-6),
        Check("silu, gelu, mish: least value on [-20, 20]", min(low for _, low in lowest.values()), low=-1),
        Check("silu, gelu, mish: largest distance from 0 below -20", far, high=1e-6),
    ]

    def line(name: str, f: nn.Module, dashed: bool = False, low: float = -4, high: float = 4) -> Line:
        curve = grid(low, high, 161)
        return Line(name, curve.tolist(), f(curve).detach().tolist(), dashed)

    axes = partial(Panel, x=Axis("x"), y=Axis("f(x)"))
    return Finding(
        checks=checks,
        tables=[
            Table("The largest distance to the limit.", ["function", "distance to", "parameter: distance"], [
                ["`gelu_sigma`", "relu", ", ".join(f"sigma {s:g}: {short(v)}" for s, v in sharp.items())],
                ["`swish`", "relu", ", ".join(f"beta {b:g}: {short(v)}" for b, v in hard.items() if b >= 1)],
                ["`swish`", "x/2, on [-3, 3]", ", ".join(f"beta {b:g}: {short(v)}" for b, v in flat.items() if b <= 1)],
            ]),
            Table("The largest jump of a derivative: near 0 where it is continuous.",
                  ["function", "f'", "f''"], [[f"`{n}`", *map(short, v)] for n, v in kinks.items()]),
            Table("The minimum, the only one: below it the function rises again towards 0.",
                  ["function", "at x", "value"],
                  [[f"`{n}`", f"{at:.3f}", f"{v:.4f}"] for n, (at, v) in lowest.items()]),
        ],
        plot=Plot("Claim 5: limits and shapes", [
            axes("gelu_sigma", lines=[*(line(f"sigma {s:g}", build("gelu_sigma", sigma=s)) for s in (1.0, 0.3, 0.1)),
                                      line("relu", relu, True)]),
            axes("swish", lines=[*(line(f"beta {b:g}", swish[b]) for b in (0.1, 1.0, 3.0, 10.0)),
                                 line("relu", relu, True), line("x/2", half, True)]),
            axes("a minimum", lines=[line(name, build(name), low=-6, high=0.5) for name in BUMPED]),
        ]),
    )  # fmt: skip


class Half(nn.Module):
    """x / 2."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2

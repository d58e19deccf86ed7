"""What an activation does, as numbers and as a drawing; the course of a learning rate, as a drawing.

Everything is computed in float64 and rounded coarsely, so that every machine writes the same bytes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from denoise.pictures.figure import BLUE, FAINT, ORANGE, blank, panel, styled, svg

FLAT = 0.01  # a slope below this lets hardly any gradient through


@dataclass(frozen=True)
class Figures:
    """An activation f on z ~ N(0, 1), in evaluation mode and as it starts.

    gain: 1 / sqrt(E[f^2]) in training, 0 where f is 0; flat: the share of z with |f'(z)| < 0.01; bent: the share of
    f's variance that no straight line in z explains, 1 - corr(f, z)^2; pointwise: whether f(z) depends on z alone.
    """

    mean: float
    second_moment: float
    gain: float
    slope: float
    flat: float
    bent: float
    pointwise: bool


def evaluate(activation: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """f and f' at the points x (N,), given to f as one map of one channel (1, 1, N, 1)."""
    at = x.double()[None, None, :, None].requires_grad_()
    y = activation.double().eval()(at)
    slope = torch.autograd.grad(y.sum(), at)[0] if y.requires_grad else torch.zeros_like(at)
    return y.detach().flatten(), slope.flatten()


def between(low: float, high: float, count: int) -> Tensor:
    """The middles of `count` equal parts of [low, high]: no kink at a round number is hit."""
    return low + (torch.arange(count, dtype=torch.float64) + 0.5) * ((high - low) / count)


def figures(activation: nn.Module) -> Figures:
    """Measure an activation by the midpoint rule on [-12, 12]."""
    z = between(-12, 12, 24_000)
    weight = torch.exp(-z.square() / 2)
    weight /= weight.sum()
    f, slope = evaluate(activation, z)
    halves = torch.cat([evaluate(activation, z[:12_000])[0], evaluate(activation, z[12_000:])[0]])

    def mean(values: Tensor) -> float:
        return float((weight * values).sum())

    second = mean(f.square())
    drawn = getattr(activation, "mean_square", None)
    trained = mean(drawn(z)) if callable(drawn) else second
    variance = second - mean(f) ** 2
    return Figures(
        mean=mean(f),
        second_moment=second,
        gain=trained**-0.5 if trained > 1e-12 else 0.0,
        slope=mean(slope.square()),
        flat=mean((slope.abs() < FLAT * (1 - 1e-6)).double()),
        bent=1 - mean(f * z) ** 2 / variance if variance > 1e-12 else 0.0,
        pointwise=bool((f - halves).abs().max() < 1e-9),
    )


def digits(value: float) -> str:
    """Three digits; what is zero but for rounding is 0, and a tie goes up on every machine."""
    return "0" if abs(value) < 1e-6 else f"{value * (1 + 1e-9):.3g}"


Lines = dict[str, list[float]]


def activation_lines(activation: nn.Module) -> tuple[list[float], Lines]:
    """z on [-4, 4], and f and f' there."""
    x = between(-4, 4, 80)
    f, slope = evaluate(activation, x)
    return coarse(x.tolist()), {"f": coarse(f.tolist()), "f'": coarse(slope.tolist())}


def course_lines(rates: Sequence[float]) -> tuple[list[float], Lines]:
    """The share of the training that is done, t / T, and lr(t) / lr there."""
    return coarse([(i + 0.5) / len(rates) for i in range(len(rates))]), {"lr(t) / lr": coarse(rates)}


def draw_activation(title: str, activation: nn.Module) -> str:
    """f solid and f' dashed, as SVG; all drawings have one window and one scale, so they compare."""
    return drawing(f"{title}: f solid, f' dashed", *activation_lines(activation), (-4, 4, -2, 4), "z").decode()


def draw_course(title: str, rates: Sequence[float]) -> str:
    """lr(t) / lr, as SVG."""
    return drawing(f"{title}: lr(t) / lr over t / T", *course_lines(rates), (0, 1, -0.05, 1.1), "t / T").decode()


@styled
def drawing(
    title: str,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    window: tuple[float, float, float, float],
    name: str,
) -> bytes:
    """Draw named lines in a window (left, right, bottom, top): the first solid, the second dashed."""
    figure = blank(240, 180)
    left, right, bottom, top = window
    axes = panel(figure, 30, 16, 200, 134)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=name)
    axes.locator_params(nbins=4)
    axes.tick_params(length=0)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    for i, (said, y) in enumerate(lines.items()):
        colour = (BLUE, ORANGE)[i]
        axes.plot(x, y, ("-", "--")[i], color=colour, linewidth=1.6)
        axes.annotate(said, (0, 1), (20 * i, 5), "axes fraction", "offset points", color=colour)
    return svg(figure, title)


def coarse(values: Sequence[float]) -> list[float]:
    """Values in thousandths, a tie up on every machine; what lies far outside of a window is cut at 10."""
    cut = [min(max(value, -10.0), 10.0) for value in values]
    return [value if math.isnan(value) else math.floor(1000 * value + 0.5 + 1e-6) / 1000 for value in cut]

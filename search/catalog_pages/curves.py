"""What an activation does, as numbers and as a drawing; the course of a learning rate, as a drawing.

Everything is computed in float64 and rounded coarsely, so that every machine writes the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor, nn

FLAT = 0.01  # a slope below this lets hardly any gradient through
STYLES = ('stroke="#1f5fbf" stroke-width="7"', 'stroke="#c2570c" stroke-width="6" stroke-dasharray="22 13"')


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


def draw_activation(title: str, activation: nn.Module) -> str:
    """f solid and f' dashed on [-4, 4], as SVG; all drawings have one window and one scale, so they compare."""
    x = between(-4, 4, 80)
    lines = [list(zip(x.tolist(), y.tolist(), strict=True)) for y in evaluate(activation, x)]
    return svg(f"{title}: f solid, f' dashed", lines, (-4, 4, -2, 4), ("f", "f'"), ((3, 0, "3"), (0, 1, "1")))


def draw_course(title: str, rates: Sequence[float]) -> str:
    """lr(t) / lr over the share of the training that is done, as SVG."""
    points = [((i + 0.5) / len(rates) * 8, rate * 4) for i, rate in enumerate(rates)]
    return svg(f"{title}: lr(t) / lr over t / T", [points], (-1, 9, -1, 5), ("lr(t)",), ((8, 0, "T"), (0, 4, "lr")))


def svg(
    title: str,
    lines: Sequence[Sequence[tuple[float, float]]],
    window: tuple[int, int, int, int],
    names: Sequence[str],
    marks: Sequence[tuple[int, int, str]],
) -> str:
    """Draw named lines in a window (left, right, bottom, top) with a grid of ones and marks (x, y, text)."""
    left, right, bottom, top = (100 * edge for edge in window)
    box = f'x="{left}" y="{-top}" width="{right - left}" height="{top - bottom}"'
    grid = "".join(f"M{x} {-top}V{-bottom}" for x in range(left + 100, right, 100))
    grid += "".join(f"M{left} {-y}H{right}" for y in range(bottom + 100, top, 100))
    shown = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{(right - left) * 2 // 5}" height="{(top - bottom) * 2 // 5}" '
        f'viewBox="{left} {-top} {right - left} {top - bottom}" font-family="sans-serif" font-size="36" fill="none">',
        f"<title>{escape(title)}</title>",
        f'<rect {box} fill="#fff" stroke="#999" stroke-width="4"/>',
        f'<path d="{grid}" stroke="#ddd" stroke-width="2"/>',
        f'<path d="M{left} 0H{right}M0 {-top}V{-bottom}" stroke="#666" stroke-width="3"/>',
    ]
    shown += [f'<path d="{_path(line)}" {style}/>' for line, style in zip(lines, STYLES, strict=False)]
    for x, y, text in marks:
        shown.append(f'<text x="{100 * x + 10}" y="{40 - 100 * y}" fill="#555">{escape(text)}</text>')
    for i, (name, style) in enumerate(zip(names, STYLES, strict=False)):
        y = -top + 55 + 55 * i
        shown.append(f'<path d="M{left + 25} {y - 11}h80" {style}/>')
        shown.append(f'<text x="{left + 120}" y="{y}" fill="#333">{escape(name)}</text>')
    return "\n".join([*shown, "</svg>", ""])


def _path(line: Sequence[tuple[float, float]]) -> str:
    """Points in hundredths, y downwards; what lies far outside is cut at 10."""
    points = [(100 * x, -100 * min(max(y, -10.0), 10.0)) for x, y in line if not math.isnan(y)]
    return "M" + " ".join(f"{math.floor(x + 0.5 + 1e-6)} {math.floor(y + 0.5 + 1e-6)}" for x, y in points)

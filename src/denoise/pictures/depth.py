"""Signal and gradient through depth as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from denoise.pictures.figure import blank, label, panel, sheet, styled, svg


@dataclass(frozen=True)
class Curve:
    """A line of positive values over depth, 0 the input and 1 the output."""

    name: str
    values: Sequence[float]
    colour: str


def limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Powers of ten around the positive values: at least two, at most 24 decades."""
    values = [v for curve in curves for v in curve.values if v > 0 and math.isfinite(v)]
    top = min(max(math.ceil(math.log10(max(values, default=1.0)) + 1e-9), -270), 300)  # 10^top is a float
    floor = max(min(math.floor(math.log10(min(values, default=1.0))), top - 2), top - 24)
    return 10.0**floor, 10.0**top


@styled
def through_depth(title: str, panels: Mapping[str, Sequence[Curve]]) -> bytes:
    """Draw curves over depth on a logarithmic scale, a panel beside the other; what is zero lies on the floor."""
    figure = blank(len(panels) * 330, 300)
    sheet(figure).text(8, 16, label(title, 150), weight="bold")
    for i, (name, curves) in enumerate(panels.items()):
        axes = panel(figure, 44 + 330 * i, 44, 270, 185, name)
        low, high = limits(curves)
        for curve in curves:
            depth = np.linspace(0, 1, len(curve.values))
            values = np.nan_to_num(np.array(curve.values, dtype=float), nan=high, posinf=high).clip(low, high)
            axes.plot(depth, values, color=curve.colour, label=label(curve.name, 60))
        axes.set(xlim=(0, 1), ylim=(low, high), yscale="log", xlabel="depth: 0 the input, 1 the output")
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:.0e}")
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2))
    return svg(figure, title)

"""Learning curves as SVG: val/loss by step of the baseline, the best, other trials, and those that were stopped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from denoise.metrics import VAL_LOSS
from denoise.pictures.figure import BLUE, DOT, FAINT, ORANGE, SMALL, blank, panel, sheet, styled, svg

WIDE, HIGH = 640, 330  # points
FEW = 3  # looks


@dataclass(frozen=True)
class LearningCurve:
    """A trial's val/loss by step. kind: best, baseline, complete or stopped."""

    name: str
    kind: str
    points: Sequence[tuple[int, float]]


LOOK: dict[str, dict[str, Any]] = {
    "stopped": {"color": DOT, "linewidth": 0.7, "alpha": 0.5, "zorder": 2},
    "complete": {"color": DOT, "linewidth": 1.4, "zorder": 3},
    "baseline": {"color": ORANGE, "linewidth": 2.2, "zorder": 4},
    "best": {"color": BLUE, "linewidth": 2.2, "zorder": 5},
}
LEGEND = (
    "blue: the best trial; orange: the baseline; grey: other complete trials; thin: stopped early, a dot at its end"
)


def window(curves: Sequence[LearningCurve]) -> tuple[float, float]:
    """The values that are shown: from the lowest to the highest of a complete trial, the first of many looks apart."""
    finite = [[value for _, value in curve.points if math.isfinite(value)] for curve in curves]
    ended = [values for values, curve in zip(finite, curves, strict=True) if curve.kind != "stopped"]
    known = [value for values in ended or finite for value in (values[1:] if len(values) > FEW else values)]
    if not known:
        return 0.0, 1.0
    low, high = min(value for values in finite for value in values), max(known)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


@styled
def picture(curves: Sequence[LearningCurve]) -> bytes:
    """Draw a line a trial; what lies above the window is cut off."""
    figure = blank(WIDE, HIGH)
    page = sheet(figure)
    page.text(8, 16, "val/loss while the trials were trained", weight="bold")
    page.text(8, 30, LEGEND, size=SMALL, color=FAINT)
    axes = panel(figure, 58, 44, WIDE - 76, HIGH - 90)
    axes.set(xlabel="step", ylabel=VAL_LOSS, ylim=window(curves))
    for curve in curves:
        steps, values = [step for step, _ in curve.points], [value for _, value in curve.points]
        axes.plot(steps, values, **LOOK[curve.kind])
        if curve.kind == "stopped" or len(steps) == 1:
            axes.plot(steps[-1:], values[-1:], "o", ms=2.5, **LOOK[curve.kind])
    return svg(figure, "val/loss by step")

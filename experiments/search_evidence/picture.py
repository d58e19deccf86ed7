"""The incumbent's true place against compute, as SVG: a line a strategy, with its interval."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from denoise.pictures.figure import (
    BLUE,
    BROWN,
    DOT,
    FAINT,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    blank,
    panel,
    sheet,
    styled,
    svg,
)

SHOWN = {
    "random": DOT,
    "tpe": BLUE,
    "tpe_default": SKY,
    "stock_halving": PURPLE,
    "hyperband": GREEN,
    "median": BROWN,
    "funnel": ORANGE,
}
PERCENTS = (100, 50, 20, 10, 5, 2, 1, 0.5, 0.2)


@styled
def places(content: Mapping[str, Any]) -> bytes:
    """Draw what a replay's results say, both axes logarithmic."""
    title = "How good the best config found is, against compute"
    shown = {name: one["curve"] for name, one in content["strategies"].items() if name in SHOWN}
    compute = content["trainings"]
    figure = blank(560, 340)
    page = sheet(figure)
    page.text(8, 16, title, weight="bold")
    note = f"{content['configs']} configs, {content['repeats']} searches a strategy; bands: 95 % of the mean"
    page.text(8, 31, note, size=SMALL, color=FAINT)
    axes = panel(figure, 58, 46, 390, 250)
    for name, curve in shown.items():
        colour = SHOWN[name]
        axes.fill_between(compute, curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(compute, curve["mean"], color=colour, label=name, linewidth=1.5)
    axes.set(xscale="log", yscale="log", xlim=(compute[0], compute[-1]), ylim=(floor(list(shown.values())), 100))
    axes.set(xlabel="compute, in whole trainings", ylabel="true place among all configs")
    axes.minorticks_off()
    axes.set_xticks([value for value in (1, 2, 4, 8, 16, 32, 64) if compute[0] <= value <= compute[-1] * 1.001])
    axes.set_yticks([percent for percent in PERCENTS if percent >= axes.get_ylim()[0]])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02))
    return svg(figure, title)


def floor(curves: Sequence[Mapping[str, Sequence[float]]]) -> float:
    """The lower end of the places' axis, in per cent: half a decade or less below the best."""
    low = math.log10(min((min(curve["low"]) for curve in curves), default=1.0))
    return float(10.0 ** min(math.floor(low * 2) / 2, 1.0))

"""Quality against a cost: the trials that none is better than at their cost, as a table, a picture and a file."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from denoise.metrics import FLOPS_PER_STEP, PARAMETERS, PEAK_MEMORY_BYTES, STEP_SECONDS, VAL_LOSS
from denoise.pictures.figure import BLUE, DOT, FAINT, ORANGE, SMALL, blank, panel, sheet, styled, svg
from search.analysis.pareto_front import Front, loss_of
from search.console.tables import Fitting
from search.space.option import difference
from search.tracking.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = "front.json"
NAMES = {
    STEP_SECONDS: ("time a step", "s"),
    PEAK_MEMORY_BYTES: ("peak memory", "B"),
    PARAMETERS: ("parameters", ""),
    FLOPS_PER_STEP: ("operations a step", ""),
}


def table(front: Front, baseline: Sequence[str]) -> Fitting:
    """Trial, what differs from the baseline, the cost and val/loss, each beside the baseline's."""
    shown = Fitting("The front, cheapest first", spare=[5, 3])
    shown.add_column("trial", justify="right", no_wrap=True)
    shown.add_column("differs from the baseline", overflow="fold", min_width=20)
    name, unit = NAMES[front.cost]
    for column in (name.replace(" ", "\n", 1), "% of the\nbaseline's", VAL_LOSS, "% of the\nbaseline's"):
        shown.add_column(column, justify="right", no_wrap=True)
    for one in front.best:
        differs = difference(one.overrides, baseline)
        of_cost = of_loss = "-"
        if front.baseline is not None:
            of_cost = f"{one.metrics[front.cost] / front.baseline.metrics[front.cost]:.0%}"
            of_loss = f"{loss_of(one) / loss_of(front.baseline):.1%}"
        label = Text(differs, "bold" if differs == "baseline" else "")
        shown.add_row(
            str(one.number), label, amount(one.metrics[front.cost], unit), of_cost, f"{loss_of(one):.4f}", of_loss
        )
    return shown


def sentences(front: Front) -> list[str]:
    """How many trials the front has, and where the baseline stands."""
    if not front.best:
        return ["No trial completed: there is no front."]
    count = f"{len(front.best)} of {len(front.all)} complete trials are on the front: none is better at their cost"
    if front.baseline is None:
        return [f"{count}."]
    if front.baseline in front.best:
        return [f"{count}. The baseline is one of them."]
    ahead = [one for one in front.best if loss_of(one) <= loss_of(front.baseline)]
    ahead = [one for one in ahead if one.metrics[front.cost] <= front.baseline.metrics[front.cost]]
    numbers = ", ".join(str(one.number) for one in ahead)
    return [f"{count}. The baseline lies behind: no worse and no dearer than it is trial {numbers} (one seed each)."]


def amount(value: float, unit: str = "") -> str:
    """Three digits with a prefix: 12.3 ms, 1.25 M."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def files(front: Front, baseline: Sequence[str]) -> dict[str, bytes]:
    """front.json and front.svg."""
    chosen = {one.run_id for one in front.best}
    plain = [
        {
            "trial": one.number,
            "run": one.run_id,
            front.cost: one.metrics[front.cost],
            VAL_LOSS: one.value,
            "on_the_front": one.run_id in chosen,
            "differs": difference(one.overrides, baseline),
            "overrides": one.overrides,
        }
        for one in front.all
    ]
    return {FILE: json.dumps(plain, indent=1).encode(), "front.svg": picture(front)}


@styled
def picture(front: Front) -> bytes:
    """Draw every complete trial by its cost and val/loss, the front as a stair, the baseline as a diamond.

    What is far worse than all of the front is drawn at the upper edge, hollow.
    """
    name, unit = NAMES[front.cost]
    title = f"val/loss against {name}: what none is better than at its cost"
    figure = blank(540, 340 if front.best else 60)
    page = sheet(figure)
    page.text(8, 16, title, weight="bold")
    if not front.best:
        page.text(8, 36, "no trial completed")
        return svg(figure, title)
    legend = "blue: on the front, with the trial's number; grey: behind it; orange: the baseline; hollow: further up"
    page.text(8, 30, legend, size=SMALL, color=FAINT)
    axes = panel(figure, 62, 50, 456, 240)
    (left, right), (low, high) = window(front)
    axes.set(xlim=(left, right), ylim=(low, high), xlabel=f"{name}, {unit}" if unit else name, ylabel=VAL_LOSS)
    axes.xaxis.set_major_formatter(lambda value, _: amount(value, unit))
    stair = [(one.metrics[front.cost], loss_of(one)) for one in front.best]
    x, y = zip((stair[0][0], high), *stair, (right, stair[-1][1]), strict=True)
    axes.plot(x, y, color=BLUE, drawstyle="steps-post", linewidth=1.2)
    for one in (*front.behind, *front.best):
        _mark(axes, one, front, high)
    return svg(figure, title)


def window(front: Front) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ends of the cost's axis, and of val/loss's: the front and the baseline are within."""
    shown = [*front.best, *([front.baseline] if front.baseline is not None else [])]
    costs = [one.metrics[front.cost] for one in front.all]
    return _ends(costs, least=0.1), _ends([loss_of(one) for one in shown], least=0.02)


def _mark(axes: "Axes", one: Record, front: Front, high: float) -> None:
    leads = one in front.best
    colour = ORANGE if one is front.baseline else BLUE if leads else DOT
    at = one.metrics[front.cost], min(loss_of(one), high)
    shape, size = ("D", 8) if one is front.baseline else ("o", 7 if leads else 5)
    fill = "white" if loss_of(one) > high else colour
    axes.plot(*at, shape, color=colour, mfc=fill, ms=size, clip_on=False, zorder=3)
    if leads or one is front.baseline:
        below = leads and front.best.index(one) % 2  # by turns, so that neighbours' numbers do not meet
        shift, side = ((-6, 5), "right") if one is front.baseline else ((-4, -13) if below else (5, 5), "left")
        axes.annotate(str(one.number), at, shift, textcoords="offset points", weight="bold", ha=side, zorder=4)


def _ends(values: Sequence[float], least: float) -> tuple[float, float]:
    """Where an axis ends: a little beyond the values, and never narrower than `least` of them."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), least * max(abs(low), abs(high)) / 2, 1e-12)
    return low - room, high + room

"""Quality against a cost: the trials that none is better than at their cost, as a table, a picture and a file."""

import json
from collections.abc import Sequence
from html import escape

from rich.table import Table
from rich.text import Text

from denoise.pictures.svg import page, text, ticks
from search.analysis.pareto_front import Front, _loss
from search.console.tables import Fitting
from search.space.overrides import difference
from search.tracking.record import Record

FILE = "front.json"
NAMES = {
    "cost/step_seconds": ("time a step", "s"),
    "cost/peak_memory_bytes": ("peak memory", "B"),
    "cost/parameters": ("parameters", ""),
    "cost/flops_per_step": ("operations a step", ""),
}
LEFT, TOP, WIDE, HIGH = 76, 62, 560, 330
LINE, DOT, BASE = "#2b6cb0", "#7a8794", "#c2570c"


def table(front: Front, baseline: Sequence[str]) -> Table:
    """Trial, what differs from the baseline, the cost and val/loss, each beside the baseline's."""
    shown = Fitting("The front, cheapest first", spare=[5, 3])
    shown.add_column("trial", justify="right", no_wrap=True)
    shown.add_column("differs from the baseline", overflow="fold", min_width=20)
    name, unit = NAMES[front.cost]
    for column in (name.replace(" ", "\n", 1), "% of the\nbaseline's", "val/loss", "% of the\nbaseline's"):
        shown.add_column(column, justify="right", no_wrap=True)
    for one in front.best:
        differs = difference(one.overrides, baseline)
        of_cost = of_loss = "-"
        if front.baseline is not None:
            of_cost = f"{one.metrics[front.cost] / front.baseline.metrics[front.cost]:.0%}"
            of_loss = f"{_loss(one) / _loss(front.baseline):.1%}"
        label = Text(differs, "bold" if differs == "baseline" else "")
        shown.add_row(
            str(one.number), label, amount(one.metrics[front.cost], unit), of_cost, f"{_loss(one):.4f}", of_loss
        )
    return shown


def sentences(front: Front) -> list[str]:
    """How many trials the front has, and where the baseline stands."""
    if not front.best:
        return ["No trial came to its end: there is no front."]
    count = f"{len(front.best)} of {len(front.all)} complete trials are on the front: none is better at their cost"
    if front.baseline is None:
        return [f"{count}."]
    if front.baseline in front.best:
        return [f"{count}. The baseline is one of them."]
    ahead = [one for one in front.best if _loss(one) <= _loss(front.baseline)]
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
            "val/loss": one.value,
            "on_the_front": one.run_id in chosen,
            "differs": difference(one.overrides, baseline),
            "overrides": one.overrides,
        }
        for one in front.all
    ]
    return {FILE: json.dumps(plain, indent=1).encode(), "front.svg": picture(front, baseline)}


def picture(front: Front, baseline: Sequence[str]) -> bytes:
    """Draw every complete trial by its cost and val/loss, the front as a stair, the baseline as a diamond.

    What is far worse than all of the front is drawn at the upper edge, hollow.
    """
    name, unit = NAMES[front.cost]
    title = f"val/loss against {name}: what none is better than at its cost"
    parts = [text(8, 18, title, weight="bold")]
    if not front.best:
        return page(LEFT + WIDE + 40, 60, [*parts, text(8, 40, "no trial came to its end")], size=11)
    shown = [*front.best, *([front.baseline] if front.baseline is not None else [])]
    low, high = _ends([_loss(one) for one in shown], least=0.02)
    left, right = _ends([one.metrics[front.cost] for one in front.all], least=0.1)

    def place(one: Record) -> tuple[float, float]:
        x = LEFT + WIDE * (one.metrics[front.cost] - left) / (right - left)
        return round(x, 1), round(TOP + HIGH * (high - min(_loss(one), high)) / (high - low), 1)

    for value in ticks(left, right):
        x = LEFT + WIDE * (value - left) / (right - left)
        parts.append(f"<path d='M{x:.1f} {TOP}V{TOP + HIGH}' stroke='#eee'/>")
        parts.append(text(x, TOP + HIGH + 16, amount(value, unit), "middle"))
    for value in ticks(low, high):
        y = TOP + HIGH * (high - value) / (high - low)
        parts.append(f"<path d='M{LEFT} {y:.1f}H{LEFT + WIDE}' stroke='#eee'/>")
        parts.append(text(LEFT - 8, y + 4, f"{value:.6g}", "end"))
    parts.append(text(LEFT + WIDE, TOP + HIGH + 32, name, "end", weight="bold"))
    parts.append(text(LEFT - 8, TOP - 8, "val/loss", "end", weight="bold"))
    corners = [place(one) for one in front.best]
    stair = f"M{corners[0][0]} {TOP}V{corners[0][1]}" + "".join(f"H{x}V{y}" for x, y in corners[1:])
    parts.append(f"<path d='{stair}H{LEFT + WIDE}' fill='none' stroke='{LINE}' stroke-width='1.5'/>")
    for one in (*front.behind, *front.best):
        parts += _mark(one, front, place(one), _loss(one) > high, baseline)
    legend = "blue: on the front, with the trial's number; grey: behind it; orange: the baseline; hollow: further up"
    parts.append(text(8, 34, legend, colour="#666"))
    return page(LEFT + WIDE + 40, TOP + HIGH + 48, parts, size=11)


def _mark(one: Record, front: Front, at: tuple[float, float], above: bool, baseline: Sequence[str]) -> list[str]:
    (x, y), leads = at, one in front.best
    said = f"trial {one.number}: {difference(one.overrides, baseline)}; val/loss {_loss(one):.4f}, "
    name, unit = NAMES[front.cost]
    said += f"{name} {amount(one.metrics[front.cost], unit)}"
    colour = BASE if one is front.baseline else LINE if leads else DOT
    look = f"fill='{'#fff' if above else colour}' stroke='{colour}'"
    shape = f"<circle cx='{x}' cy='{y}' r='{5 if leads else 3.5}' {look}>"
    if one is front.baseline:
        shape = f"<path d='M{x} {y - 7}l6 7l-6 7l-6 -7z' {look}>"
    end = "</path>" if shape.startswith("<path") else "</circle>"
    drawn = [f"{shape}<title>{escape(said)}</title>{end}"]
    if leads or one is front.baseline:
        below = leads and front.best.index(one) % 2  # by turns, so that neighbours' numbers do not meet
        drawn.append(text(x - 5 if below else x + 7, y + 18 if below else y - 7, str(one.number), weight="bold"))
    return drawn


def _ends(values: Sequence[float], least: float) -> tuple[float, float]:
    """Where an axis ends: a little beyond the values, and never narrower than `least` of them."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), least * max(abs(low), abs(high)) / 2, 1e-12)
    return low - room, high + room

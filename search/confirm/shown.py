"""What a person reads of a confirmation: a table, a sentence a finalist, a picture of the intervals."""

import math
from collections.abc import Callable
from html import escape

from rich.table import Table
from rich.text import Text

from denoise.picture.svg import page, text, ticks
from search.confirm.result import Arm, Confirmation, Finalist
from search.confirm.statistics import BETTER, OPEN, WORSE

STYLE = {BETTER: "green", WORSE: "red", OPEN: ""}
COLOUR = {BETTER: "#1b7837", WORSE: "#c2570c", OPEN: "#555555"}
LEFT, WIDE, ROW, TOP = 300, 420, 44, 58


def decimals(found: Confirmation) -> int:
    """Digits behind the point that show two figures of the narrowest interval; 3 to 8."""
    halves = [(one.interval[1] - one.interval[0]) / 2 for one in found.finalists if one.interval]
    sizes = [size for size in halves if size > 0]
    return min(8, max(3, 1 - math.floor(math.log10(min(sizes))))) if sizes else 4


def table(found: Confirmation) -> Table:
    """Trial, what differs, seeds, mean val/loss, the difference with its intervals, the search's own, the verdict."""
    d = decimals(found)
    shown = Table(title="Confirmed on fresh seeds", title_justify="left", title_style="bold", pad_edge=False)
    shown.add_column("trial", justify="right")
    shown.add_column("differs from the baseline", overflow="fold", ratio=1, min_width=20)
    for name in ("seeds", "val/loss", "difference", f"{100 * found.settings.level:g} % interval", "bootstrap"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("search", justify="right", no_wrap=True)
    shown.add_column("verdict", min_width=13)
    shown.add_row(*_head(found.baseline, d), *[""] * 5, style="bold")
    for one in found.finalists:
        mean, search = _signed(one.mean_difference, d), _signed(one.search_difference, d)
        between = (_between(one.interval, d), _between(one.bootstrap, d))
        shown.add_row(*_head(one, d), mean, *between, search, Text(one.verdict), style=STYLE[one.verdict])
    shown.caption = "difference: finalist - baseline, below 0 is better; search: what the search had promised"
    return shown


def _head(arm: Arm, d: int) -> list[str]:
    mean = f"{sum(arm.finite) / len(arm.finite):.{d}f}" if arm.finite else "-"
    return ["" if arm.trial is None else str(arm.trial), arm.differs, str(len(arm.values)), mean]


def _signed(value: float | None, d: int) -> str:
    return "-" if value is None else f"{value:+.{d}f}"


def _between(interval: tuple[float, float] | None, d: int) -> str:
    return "-" if interval is None else f"{interval[0]:+.{d}f} to {interval[1]:+.{d}f}"


def sentences(found: Confirmation) -> list[str]:
    """What is shown and what is not, a sentence a finalist, then what else should be known."""
    if not found.finalists:
        return ["Nothing was confirmed: no trial but the baseline came to its end."] if found.settings.finalists else []
    lines = [f"{one.name}: {_said(one, found)}" for one in found.finalists]
    if found.baseline_best:
        lines.append("The baseline itself had the best value of the search; these are the next best.")
    lost = set(found.baseline.failures.values())
    if lost:
        count = f"{len(found.baseline.failures)} of {len(found.baseline.values)}"
        lines.append(
            f"The baseline failed on {count} seeds ({', '.join(sorted(lost))}); they are left out for everyone."
        )
    if any(one.interval for one in found.finalists):
        many = len(found.finalists)
        joint = f"for all {many} finalists and " if many > 1 else ""
        lines.append(
            f"The intervals (Student's t) hold together at {100 * found.settings.level:g} %, {joint}at all looks on "
            "the way; the bootstrap's are too narrow at so few seeds."
        )
    d = decimals(found)
    for one in found.ensembles:
        lines.append(
            f"Averaged prediction of {one.of}: {one.value:.{d}f}; its {len(one.runs)} members alone "
            f"{one.members_mean:.{d}f} in the mean, {one.members_best:.{d}f} at best (one value, without an "
            f"interval; it costs {len(one.runs)} times as much)."
        )
    return lines


def _said(one: Finalist, found: Confirmation) -> str:
    d = decimals(found)
    mean = one.mean_difference
    if one.diverged:
        text = f"worse than the baseline: diverged on {one.diverged} of {_seeds(len(one.values))}"
        return text + (f"; on the others {_size(mean, d)} in the mean" if mean is not None else "") + _promised(one, d)
    if one.interval is None or mean is None:
        kinds = ", ".join(sorted({*one.failures.values(), *found.baseline.failures.values()}))
        return f"{OPEN}: only {one.pairs} of {_seeds(len(one.values))} can be compared ({kinds}){_promised(one, d)}"
    low, high = one.interval
    share, seeds = f"{100 * found.settings.level:g} % interval", _seeds(one.pairs)
    if one.verdict == OPEN:
        span = f"{_size(high, d)} to {_size(low, d)}"
        return f"{OPEN} to the baseline: {_size(mean, d)} in the mean ({share} {span}, {seeds}){_promised(one, d)}"
    near, far = sorted((abs(low), abs(high)))
    text = f"{one.verdict} than the baseline by {abs(mean):.{d}f} ({share} {near:.{d}f} to {far:.{d}f}, {seeds})"
    return text + _promised(one, d)


def _seeds(count: int) -> str:
    return f"{count} seed" + "s" * (count != 1)


def _size(difference: float, d: int) -> str:
    """A difference in words: 0.012 better."""
    return f"{abs(difference):.{d}f} {'better' if difference < 0 else 'worse'}"


def _promised(one: Finalist, d: int) -> str:
    if one.search_difference is None:
        return "; the search has no value of the baseline to compare with."
    if one.search_difference < 0:
        return f"; the search had promised {-one.search_difference:.{d}f}."
    return f"; in the search it was {one.search_difference:.{d}f} worse."


def picture(found: Confirmation) -> bytes:
    """Each finalist's difference to the baseline as SVG: its two intervals, and what the search had said."""
    shown = [value for one in found.finalists for value in _values(one)]
    low, high = min([0.0, *shown]), max([0.0, *shown])
    pad = 0.06 * (high - low) or 1.0
    low, high = low - pad, high + pad
    bottom = TOP + ROW * len(found.finalists)
    width, height = LEFT + WIDE + 190, bottom + 70

    def x(value: float) -> float:
        return round(LEFT + WIDE * (value - low) / (high - low), 1)

    title = f"Difference to the baseline in val/loss, {100 * found.settings.level:g} % intervals that hold together"
    parts = [
        f"<title>{escape(title)}</title>",
        text(10, 20, title, weight="bold"),
        text(x(0) - 8, TOP - 10, "better", "end"),
        text(x(0) + 8, TOP - 10, "worse"),
    ]
    for value in ticks(low, high):
        parts.append(f"<path d='M{x(value)} {TOP}V{bottom}' stroke='{'#ddd' if value else '#222'}'/>")
        parts.append(text(x(value), bottom + 16, f"{value:.3g}", "middle"))
    for i, one in enumerate(found.finalists):
        parts += _row(one, TOP + ROW * i + ROW // 2, x)
    legend = "dot and thick line: mean and t interval; thin line: bootstrap; diamond: what the search had said"
    parts.append(text(10, height - 16, legend, size=11))
    return page(width, height, parts, size=12)


def _values(one: Finalist) -> list[float]:
    values = [one.mean_difference, one.search_difference, *(one.interval or ()), *(one.bootstrap or ())]
    return [value for value in values if value is not None]


def _row(one: Finalist, y: int, x: Callable[[float], float]) -> list[str]:
    colour = COLOUR[one.verdict]
    name = one.name if len(one.name) <= 46 else one.name[:45] + "…"
    parts = ["<g>", f"<title>{escape(one.name)}</title>", text(LEFT - 12, y + 4, name, "end", size=11)]
    for interval, thick, dy in ((one.interval, 4, 0), (one.bootstrap, 1.5, 8)):
        if interval is not None:
            ends = f"M{x(interval[0])} {y + dy}H{x(interval[1])}"
            parts.append(f"<path d='{ends}' stroke='{colour}' stroke-width='{thick}' stroke-linecap='round'/>")
    if one.search_difference is not None:
        at = x(one.search_difference)
        parts.append(f"<path d='M{at} {y - 7}l5 7l-5 7l-5 -7z' fill='#fff' stroke='#1f5fbf' stroke-width='1.5'/>")
    if one.mean_difference is not None:
        parts.append(f"<circle cx='{x(one.mean_difference)}' cy='{y}' r='5' fill='{colour}'/>")
    said = one.verdict + (f", diverged {one.diverged}x" if one.diverged else "")
    return [*parts, text(LEFT + WIDE + 12, y + 4, said, colour=colour), "</g>"]

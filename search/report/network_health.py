"""How an inspected network is shown: layers as a table with bars, and what follows, in a sentence."""

import math
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from denoise.evaluation.inspection import Inspection, Layer
from search.console.tables import Fitting

CELLS = 12
HEALTH = "health/"  # begins the name of each such metric


def trained(metrics: Mapping[str, float]) -> dict[str, float]:
    """What a training's metrics say of its whole network, by name: dead fraction, ...; none of single layers."""
    found = {name.removeprefix(HEALTH): value for name, value in metrics.items() if name.startswith(HEALTH)}
    return {name.replace("_", " "): value for name, value in sorted(found.items()) if "/" not in name}


def summary(trainings: Mapping[str, Mapping[str, float]]) -> Fitting | None:
    """A row a training, by its name and metrics, a column a figure of its network; None where there is no figure."""
    found = {name: trained(metrics) for name, metrics in trainings.items()}
    figures = sorted({figure for each in found.values() for figure in each})
    table = Fitting("The networks at the end of their trainings")
    table.add_column("training", overflow="fold", min_width=20)
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    for name, each in found.items():
        table.add_row(Text(name), *(f"{each[figure]:.3g}" if figure in each else "-" for figure in figures))
    return table if figures else None


def layers(found: Sequence[Layer], title: str, every: int = 1) -> Table:
    """A row a layer in the order in which they run; with `every` each so many-th, the first and the last."""
    table = Fitting(title, spare=[(2, 4)])
    table.add_column("activation layer", overflow="fold", min_width=17)
    for name in ("signal,\nstd", "", "gradient,\nrms", "", "saturated", "dead"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    signals, gradients = [row.signal for row in found], [row.gradient for row in found]
    for i, row in enumerate(found):
        if i % every and i != len(found) - 1:
            continue
        table.add_row(
            row.name,
            f"{row.signal:.2g}",
            bar(row.signal, signals, "blue"),
            f"{row.gradient:.2g}",
            bar(row.gradient, gradients, "magenta"),
            f"{row.saturated:.0%}",
            Text(f"{row.dead:.0%}", "red" if row.dead > 0 else ""),
        )
    return table


def bar(value: float, among: Sequence[float], colour: str) -> Text:
    """A bar on a logarithmic scale of at least two decades, full at the largest of the values `among`."""
    finite = [v for v in among if v > 0 and math.isfinite(v)]
    if not finite or not value > 0:
        return Text("")
    top = math.log10(max(finite))
    floor = min(math.log10(min(finite)), top - 2)
    share = (min(math.log10(value), top) - floor) / (top - floor) if math.isfinite(value) else 1.0
    eighths = round(share * CELLS * 8)
    return Text("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip(), colour)


def verdict(found: Inspection) -> list[str]:
    """What happens to signal and gradient, in a sentence for the network and one for the plain stack."""
    lines = []
    for who, rows in (("the network", found.network), (f"{len(found.stack)} plain layers", found.stack)):
        if not rows:
            continue
        first, last = rows[0], rows[-1]
        signal, gradient = ratio(last.signal, first.signal), ratio(first.gradient, last.gradient)
        lines.append(
            f"Through {who} the signal {word(signal)} (last layer / first: {signal:.2g}), "
            f"the gradient {word(gradient)} (first / last: {gradient:.2g})."
        )
    return lines


def ratio(a: float, b: float) -> float:
    """a / b, 0 / 0 being 0."""
    if b:
        return a / b
    return math.inf if a else 0.0


def word(factor: float) -> str:
    """What a factor over the whole depth means."""
    if not math.isfinite(factor) or factor > 1e3:
        return "explodes"
    if factor < 1e-3:
        return "vanishes"
    return "holds" if 0.1 <= factor <= 10 else ("shrinks" if factor < 1 else "grows")

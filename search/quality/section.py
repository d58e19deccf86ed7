"""What the user reads of the quality of drawn images: a table of the arms, and what it says beside the loss."""

from rich.text import Text

from denoise.evaluation.sample_quality import Figure
from denoise.metrics import FRECHET_DISTANCE, KERNEL_DISTANCE, PRECISION, QUALITY, RECALL, TEST_LOSS
from search.console.tables import Fitting
from search.quality.found import ArmQuality, QualityFound

HEADS = {
    KERNEL_DISTANCE: "kernel\ndistance",
    FRECHET_DISTANCE: "Fréchet\ndistance",
    PRECISION: "precision",
    RECALL: "recall",
}


def quality_section(found: QualityFound | None) -> tuple[str, tuple[str, ...], tuple[Fitting, ...]]:
    """Title, sentences and tables of a section of the report; a title alone where nothing was measured."""
    if found is None:
        return "Sample quality", (), ()
    return "Sample quality", tuple(sentences(found)), (table(found),) if found.measured else ()


def sentences(found: QualityFound | None) -> list[str]:
    """How near each config's images are beside the baseline's, whether loss and distance agree, what to mind."""
    if found is None:
        return []
    base, *others = found.arms
    lines = [f"{_name(arm)}: no sample quality, {arm.failure}." for arm in found.arms if not arm.figures]
    lines += [_beside(arm, found) for arm in others if arm.beside]
    if not any(arm.beside for arm in others) and base.figures:
        lines.append(f"The baseline's images have a kernel distance of {_short(base.figures[KERNEL_DISTANCE].value)}.")
    if len(found.measured) > 2:
        lines.append(_agreement(found))
    return [*lines, _mind(found)] if found.measured else lines


def _beside(arm: ArmQuality, found: QualityFound) -> str:
    value, difference = arm.figures[KERNEL_DISTANCE], arm.beside[KERNEL_DISTANCE]
    nearer = "farther from the test images than" if difference.value > 0 else "nearer to the test images than"
    if difference.low is None or difference.high is None:
        return (
            f"{_name(arm)}: kernel distance {_short(value.value)}, {_short(difference.value, '+')} to the baseline's."
        )
    shown = f"{_short(difference.low, '+')} to {_short(difference.high, '+')}"
    apart = difference.low > 0 or difference.high < 0
    said = (
        f"images {nearer} the baseline's" if apart else "images not shown to be nearer or farther than the baseline's"
    )
    level = f"{100 * found.level:g} % interval {shown}"
    return f"{_name(arm)}: {said}, kernel distance {_short(value.value)}, {_short(difference.value, '+')} ({level})."


def _agreement(found: QualityFound) -> str:
    many = len(found.measured)
    if found.correlation is None:
        return f"Kernel distance and test/loss of {many} configs cannot be ranked: some do not differ."
    return f"Rank correlation of kernel distance and test/loss: {found.correlation:+.2f} (of {many} configs)."


def _mind(found: QualityFound) -> str:
    seeds = max(len(arm.runs) for arm in found.measured)
    over = f"{found.count} images of each of {seeds} seed{'s' if seeds > 1 else ''} beside {found.count} test images"
    sure = f" with {100 * found.accuracy:.1f} % of the test images right" if found.accuracy is not None else ""
    limits = "; the intervals are over images, not over seeds" if any(_spread(arm) for arm in found.measured) else ""
    return f"Sample quality: {over}, features of {found.features}{sure}{limits}."


def _spread(arm: ArmQuality) -> bool:
    return any(figure.low is not None for figure in arm.figures.values())


def table(found: QualityFound) -> Fitting:
    """The figures of each arm, of training images below them: within 80 columns."""
    shown = Fitting(f"Sample quality, {found.count} images a seed", spare=[2, 7, 8, 4])
    shown.add_column("trial", justify="right", no_wrap=True)
    shown.add_column("differs from the baseline", overflow="fold", min_width=15)
    shown.add_column("seeds", justify="right", no_wrap=True)
    for name in QUALITY:
        shown.add_column(HEADS[name], justify="right", no_wrap=True)
    shown.add_column(TEST_LOSS, justify="right", no_wrap=True)
    shown.add_column(
        f"kernel distance less the\nbaseline's, {100 * found.level:g} % interval", justify="right", no_wrap=True
    )
    best = min((arm.figures[KERNEL_DISTANCE].value for arm in found.measured), default=None)
    for arm in found.arms:
        values = [_short(arm.figures[name].value) if arm.figures else "-" for name in QUALITY]
        loss = "-" if arm.loss is None else f"{arm.loss:.4f}"
        number, difference = "" if arm.trial is None else str(arm.trial), arm.beside.get(KERNEL_DISTANCE)
        style = "bold" if arm.figures and arm.figures[KERNEL_DISTANCE].value == best else ""
        seeds = str(len(arm.runs))
        shown.add_row(number, Text(arm.differs), seeds, *values, loss, _interval(difference), style=style)
    if found.training:
        shown.add_row("", "training images", "", *(_short(found.training[name]) for name in QUALITY), "", "")
    return shown


def _interval(figure: Figure | None) -> str:
    if figure is None:
        return ""
    shown = _short(figure.value, "+")
    return shown if figure.low is None or figure.high is None else f"{shown} ({figure.low:+.3g}, {figure.high:+.3g})"


def _short(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3g}"


def _name(arm: ArmQuality) -> str:
    return "The baseline" if arm.differs == "baseline" else f"Trial {arm.trial} ({arm.differs})"

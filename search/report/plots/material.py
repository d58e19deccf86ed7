"""What a report shows beside words: learning curves, samples, cost against quality."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from denoise.errors import UserError
from denoise.metrics import STEP_SECONDS, VAL_LOSS
from search.analysis import pareto_front as analysis
from search.analysis.confirmation import Confirmation
from search.analysis.ranking import best
from search.report import pareto_front
from search.report.plots import curves
from search.report.plots.curves import LearningCurve
from search.space.option import difference
from search.tracking.record import Record
from search.tracking.tracker import Tracker

FEW = 3  # points that make a picture of cost against quality
CURVES = 40  # trials whose course is read: one question of the tracker each
SAMPLES = "samples.png"
REAL = "data.png"  # of the search's run: images of the data
LARGEST = 600_000  # bytes of a picture that is taken over


@dataclass(frozen=True)
class Picture:
    """An SVG or a PNG, and what it shows; small: of few pixels, to be enlarged as they are; caption: that is said."""

    content: bytes
    says: str
    small: bool = False
    caption: bool = True

    @property
    def is_svg(self) -> bool:
        return self.content.startswith(b"<svg")


def learning(tracker: Tracker, records: Sequence[Record], baseline: Sequence[str]) -> list[Picture]:
    """The learning curves: the baseline's, the best trials', those of what was stopped latest."""
    top, found = best(records), []
    for record in _shown(records, baseline):
        kind = "complete" if record.outcome == "complete" else "stopped"
        if record is top:
            kind = "best"
        elif difference(record.overrides, baseline) == "baseline":
            kind = "baseline"
        points = {each.step: each.value for each in tracker.client.get_metric_history(record.run_id, VAL_LOSS)}
        if points:
            found.append(LearningCurve(str(record.number), kind, sorted(points.items())))
    if not any(len(curve.points) > 1 for curve in found):
        return []
    left = len([record for record in records if record.value is not None]) - len(found)
    says = "val/loss by step, lower is better" + (f"; {left} other trials are not drawn" if left > 0 else "")
    return [Picture(curves.picture(found), f"{says}.")]


def _shown(records: Sequence[Record], baseline: Sequence[str]) -> list[Record]:
    """The trials whose curve is drawn, best first, the baseline among them."""
    measured = [record for record in records if record.value is not None and math.isfinite(record.value)]
    first = [record for record in measured if difference(record.overrides, baseline) == "baseline"]
    return [*first[:1], *(record for record in measured if record not in first[:1])][:CURVES]


def samples(
    tracker: Tracker, parent: str, records: Sequence[Record], baseline: Sequence[str], found: Confirmation | None
) -> list[Picture]:
    """Real images where the search has some, then what the baseline and the best draw from the same noise."""
    shown = [(parent, REAL, "Images of the data")]
    shown += [(run, SAMPLES, says) for run, says in _pair(records, baseline, found)]
    files = [(_file(tracker, run, name), says) for run, name, says in shown]
    return [Picture(content, says, small=True) for content, says in files if content]


def _pair(records: Sequence[Record], baseline: Sequence[str], found: Confirmation | None) -> list[tuple[str, str]]:
    """The run of the baseline and that of the best, on one seed: on it a sampler starts from the same noise."""
    if found is not None and found.best is not None:
        arms = [found.baseline, *([found.best] if found.best is not found.baseline else found.finalists[:1])]
        seed = next(
            (seed for seed in found.best.typical if all(arm.values.get(seed) is not None for arm in arms)), None
        )
        if seed is not None:
            names = ["The baseline", f"Trial {arms[1].trial} ({arms[1].differs})"]
            return [(arm.runs[seed], f"{name}, seed {seed}") for arm, name in zip(arms, names, strict=True)]
    top = best(records)
    first = next((one for one in records if difference(one.overrides, baseline) == "baseline"), None)
    shown = [] if first is None else [(first.run_id, "The baseline")]
    if top is not None and top is not first:
        shown.append((top.run_id, f"Trial {top.number} ({difference(top.overrides, baseline)})"))
    return shown


def _file(tracker: Tracker, run_id: str, name: str) -> bytes:
    """An artifact that is a picture and not too large; nothing where there is none."""
    if not tracker.has(run_id, name):
        return b""
    with tempfile.TemporaryDirectory() as folder:
        try:
            content = tracker.artifact(run_id, name, Path(folder)).read_bytes()
        except UserError:
            return b""
    return content if content.startswith(b"\x89PNG") and len(content) <= LARGEST else b""


def costs(records: Sequence[Record], cost: str | None, baseline: Sequence[str]) -> list[Picture]:
    """Cost against quality; of a search that weighs no cost the time of a step."""
    front = analysis.find(records, cost or STEP_SECONDS, baseline)
    if len(front.all) < FEW:
        return []
    aside = "" if cost else " It was measured while the search trained, where processes share the machine."
    return [Picture(pareto_front.picture(front), f"{pareto_front.sentences(front)[0]}{aside}")]

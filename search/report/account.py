"""How a search went: what its trials ended with, what it took, on what it ran, how to do it again."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from denoise.metrics import CHECKPOINT_LOSS, FIRST_LOSS, FLOPS_PER_STEP, TRAINING_SECONDS, VAL_LOSS
from search import __version__
from search.analysis.confirmation import Confirmation
from search.analysis.ranking import best
from search.console.printed_commands import make
from search.console.redact import hide, line
from search.console.tables import Fitting
from search.report import network_health, pareto_front
from search.report.progress import clock
from search.space.option import difference
from search.tracking.record import OUTCOMES, Record
from search.tracking.tags import Tag

NAMED = ("data", "model", "sampler", "pruner", "seed")  # params of a search's run
MOST = 500  # rows of a table
NOT_TRAINED = (Tag.DUPLICATE_OF, Tag.MIGRATED_FROM)  # a trial with one of these has another run's result


def outcomes(records: Sequence[Record]) -> tuple[str, ...]:
    """How many trials ended how, and what failed, counted by kind."""
    counts = Counter(record.outcome for record in records)
    kinds = Counter(record.tags.get(Tag.FAILURE_KIND, "failed") for record in records if record.outcome == "failed")
    words = {"pruned": "stopped early", "running": "still running or interrupted"}
    parts = [f"{counts[name]} {words.get(name, name)}" for name in OUTCOMES if counts[name]]
    said = [f"{len(records)} trials: {', '.join(parts) or 'none is over'}."]
    firsts = [record.metrics[FIRST_LOSS] for record in records if FIRST_LOSS in record.metrics]
    own = next((record.metrics[CHECKPOINT_LOSS] for record in records if CHECKPOINT_LOSS in record.metrics), None)
    if own is not None and firsts:
        said.append(
            f"The checkpoint's own val/loss is {own:.4f}; trials begin at {min(firsts):.4f} to {max(firsts):.4f}."
        )
    if kinds:
        said.append(f"Failed: {', '.join(f'{number} {kind}' for kind, number in kinds.most_common())}.")
    return tuple(said)


def failures(records: Sequence[Record], baseline: Sequence[str]) -> Fitting | None:
    """A row a failed trial: what differs, at which step, why; None where none failed."""
    table = Fitting("What failed, and why")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("differs from the baseline", overflow="fold", min_width=20)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", min_width=20)
    for record in records:
        if record.outcome == "failed" and len(table.rows) < MOST:
            layer = record.tags.get(Tag.FAILURE_LAYER, "")
            why = line(record.failure) + (f" (first in {layer})" if layer and layer not in record.failure else "")
            table.add_row(str(record.number), difference(record.overrides, baseline), str(record.step), why)
    return table if table.rows else None


def costs(records: Sequence[Record], found: Confirmation | None, metrics: Any) -> tuple[str, ...]:
    """What the trials took, what the confirmation, and the search on the clock."""
    steps, flops, seconds = spent(records)
    counted = f", {pareto_front.amount(flops)} operations" if flops else ""  # not known of a LightningModule
    said = f"The trials took {steps:,.0f} optimizer steps{counted} and {clock(seconds)} minutes of training"
    if found is not None:
        said += f"; the confirmation {found.trainings} trainings more"
    lines = [f"{said}."]
    if wall := metrics.get("search/wall_seconds"):
        share = metrics.get("search/overhead")
        beside = f", {share:.0%} of it beside training" if share is not None and 0 <= share < 1 else ""
        lines.append(f"The search's last run took {clock(wall)} minutes{beside}, the confirmation not counted.")
    return tuple(lines)


def commands(
    records: Sequence[Record], typed: Sequence[str] | None, run_id: str, top: str
) -> tuple[tuple[str, str], ...]:
    """What to type, and what it does."""
    found = (
        [(make("search", typed), "resumes this search; in an empty store does it again")] if typed is not None else []
    )
    found.append((make("report", run=run_id), "this report"))
    if top or best(records) is not None:
        found.append((make("best"), "the best config as a command, and best.yaml"))
        found.append((make("reproduce", run=top), "trains the best again: the same number, bit for bit"))
        found.append((make("sample", run=top), "draws images from its weights"))
    found.append((make("ui"), "compares the trials in MLflow"))
    return tuple((hide(command), says) for command, says in found)


def environment(records: Sequence[Record], params: Mapping[str, str]) -> tuple[str, ...]:
    """On what it ran, as its trials noted it."""
    said = [
        ", ".join(f"{name} {params[name]}" for name in ("data", "model", "sampler", "pruner", "seed") if name in params)
    ]
    machines = Counter(record.tags.get(Tag.MACHINE, "") for record in records)
    for noted, number in machines.most_common(4):
        try:
            machine = ", ".join(f"{name} {value}" for name, value in json.loads(noted).items())
        except (ValueError, AttributeError, RecursionError):
            continue
        said.append(line(f"{number} trials on: {machine}."))
    codes = ", ".join(sorted({record.tags[Tag.CODE] for record in records if Tag.CODE in record.tags}))
    said.append(f"denoise-search {__version__}; code of src/denoise: {line(codes) or 'not noted'}.")
    return tuple(filter(None, said))


def figures(records: Sequence[Record], baseline: Sequence[str], found: Confirmation | None) -> dict[str, float]:
    """The search in figures: trials by outcome, what they took, the baseline, the difference of the best finalist."""
    counts = Counter(record.outcome for record in records)
    shown = {f"trials/{name}": float(counts[name]) for name in OUTCOMES[:3]}
    trained = [one for one in records if not any(name in one.tags for name in NOT_TRAINED)]
    shown["search/steps"] = float(sum(one.step for one in trained))
    shown["search/flops"] = sum(one.step * one.metrics.get(FLOPS_PER_STEP, 0.0) for one in trained)
    shown["search/trial_seconds"] = sum(one.metrics.get(TRAINING_SECONDS, 0.0) for one in trained)
    first = next(
        (one for one in records if one.value is not None and difference(one.overrides, baseline) == "baseline"), None
    )
    if first is not None and first.value is not None:
        shown[f"baseline/{VAL_LOSS}"] = first.value
    if found is None:
        return shown
    if found.baseline.finite:
        shown["baseline/test/loss"] = found.baseline.mean
    asked = [one.asked for one in found.finalists if one.asked.difference is not None]
    if asked:
        top = min(asked, key=lambda pair: pair.difference or 0.0)
        shown["difference"] = top.difference or 0.0
        if top.interval is not None:
            shown |= {"difference_low": top.interval[0], "difference_high": top.interval[1]}
    return shown


def spent(records: Sequence[Record]) -> tuple[float, float, float]:
    """Optimizer steps, operations and seconds of training of the trials, those that have another run's result apart."""
    trained = [one for one in records if not any(name in one.tags for name in NOT_TRAINED)]
    return (
        float(sum(one.step for one in trained)),
        sum(one.step * one.metrics.get(FLOPS_PER_STEP, 0.0) for one in trained),
        sum(one.metrics.get(TRAINING_SECONDS, 0.0) for one in trained),
    )


def health(records: Sequence[Record], baseline: Sequence[str]) -> Fitting | None:
    """The figures of the baseline's network and of the best trials'."""
    first = [one for one in records if difference(one.overrides, baseline) == "baseline"][:1]
    complete = [one for one in records if one.outcome == "complete" and one not in first]
    shown: Mapping[str, Mapping[str, float]] = {
        f"trial {one.number}, {difference(one.overrides, baseline)}": one.metrics for one in [*first, *complete[:3]]
    }
    return network_health.summary(shown)

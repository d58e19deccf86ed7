"""What the pre-screen rejects: its verdicts on the configs of the table beside what trainings made of them.

    python -m experiments.search_evidence.screening [draws=1000]

Thresholds are chosen on the first draws, errors are counted on the others. What is screened is appended to
experiments/results/evidence-screens.jsonl at once (remove it after a change of the screen's steps; thresholds may
change), so the command may be killed and given again. The summary is results/screening.jsonl.
"""

import math
import statistics
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from scipy.stats import binomtest

from benchmarks import arguments, results
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.evaluation import prescreen
from experiments import tables
from experiments.search_evidence import table
from experiments.search_evidence.table import Row
from search.trial import provenance

SCREENS = tables.FOLDER / "evidence-screens.jsonl"
SUMMARY = tables.FOLDER / "screening.jsonl"
LENGTHS = (128, 300, 1000, 3000)
CHOSEN = 240  # draws below are those that the thresholds were chosen on
FIRST_RUNG = 0.25  # of trainer.max_steps, where the default pruner stops first
REASONS = (
    "not finite",
    "exploding",
    "no gradient",
    "the output is constant",
    "the output is the same for every image",
    "the loss does not move",
    "the loss hardly falls",
)
DIVERGED_AT = 10.0  # of conf/trainer/default.yaml


@dataclass(frozen=True)
class Case:
    """A config of the table: `place`, the share of configs that ended better; inf is the end of a failed training."""

    row: Row
    figures: prescreen.Readings
    rejected: str
    value: float
    place: float
    screen_seconds: float
    step_seconds: float
    failed_at: float  # the step at which the training ended by itself; inf where it did not


def recorded() -> list[dict[str, Any]]:
    """The trainings of the committed table, or of one that is being filled."""
    return table.load()[1] if table.TABLE.exists() else tables.lines(table.TRAININGS)


def fill(wanted: Sequence[Row]) -> dict[Row, dict[str, Any]]:
    """Screen what the file lacks; the line of each row."""
    found, here = table.whole_space(), provenance.describe()
    known = {Row(one["draw"], one["seed"], one["width"]): one for one in tables.lines(SCREENS)}
    missing = [row for row in wanted if row not in known]
    for i, row in enumerate(missing, start=1):
        overrides = table.draw(found, row.draw)[1]
        seen = prescreen.screen(compose([*overrides, f"seed={row.seed}", f"model.width={row.width}"]).cfg)
        known[row] = asdict(row) | {"figures": asdict(seen.figures), "seconds": seen.seconds, "machine": here}
        tables.append(SCREENS, known[row])
        if i % 20 == 0 or i == len(missing):
            print(f"{i}/{len(missing)}  draw {row.draw} width {row.width}: {seen.rejected or 'kept'}", file=sys.stderr)
    return {row: known[row] for row in wanted}


def cases(known: Mapping[Row, Mapping[str, Any]], trained: Sequence[Mapping[str, Any]], width: int) -> list[Case]:
    """Put each screened config of a width beside its trainings: the mean of its seeds, inf where one failed."""
    ends: dict[int, list[float]] = {}
    firsts: dict[int, Mapping[str, Any]] = {}
    for one in trained:
        if one["width"] == width and one["step"]:
            done = one["outcome"] == "complete" and math.isfinite(one["curve"][-1])
            ends.setdefault(one["draw"], []).append(one["curve"][-1] if done else math.inf)
            firsts.setdefault(one["draw"], one)
    values = {draw: statistics.fmean(of_seeds) for draw, of_seeds in ends.items()}
    made = []
    for row, one in known.items():
        if row.width == width and row.draw in values:
            figures = prescreen.Readings(**one["figures"])
            value = values[row.draw]
            place = sum(other < value for other in values.values()) / len(values)
            rejected = prescreen.reason(figures, table.STEPS, DIVERGED_AT)
            first = firsts[row.draw]
            failed_at = math.inf if first["outcome"] == "complete" else first["step"]
            a_step = first["training_seconds"] / first["step"]
            made.append(Case(row, figures, rejected, value, place, one["seconds"], a_step, failed_at))
    return made


def count(among: Sequence[Case]) -> dict[str, Any]:
    """How many are rejected, with an upper 95 % limit (Clopper & Pearson 1934, one-sided) on the rate."""
    rejected = sum(bool(case.rejected) for case in among)
    if not among:
        return {"rejected": 0, "of": 0, "limit_95": 1.0}
    limit = binomtest(rejected, len(among), alternative="less").proportion_ci(0.95).high
    return {"rejected": rejected, "of": len(among), "limit_95": float(limit)}


def groups(among: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """The count in each part of the ranking; a part holds configs that did not fail."""
    whole = [case for case in among if math.isfinite(case.value)]
    worst = sorted(whole, key=lambda case: -case.place)[: round(0.2 * len(whole))]
    return {
        "best 20 %": count([case for case in whole if case.place < 0.2]),
        "best 50 %": count([case for case in whole if case.place < 0.5]),
        "all": count(among),
        "worst 20 %": count(worst),
        "failed": count([case for case in among if not math.isfinite(case.value)]),
    }


def kind(reason: str) -> str:
    """The reason without names and numbers."""
    return next((one for one in REASONS if reason.startswith(one)), reason)


def margins(among: Sequence[Case]) -> dict[str, list[float | None]]:
    """How near the best 20 % come to each threshold: the threshold and their most extreme value."""
    best = [case.figures for case in among if case.place < 0.2 and not (case.figures.warmed and case.figures.jumped)]
    if not best:
        return {}
    paced = [one for one in best if one.moved > prescreen.UNMOVED and not one.speeding]
    return {
        "loss by the first, highest, without warm-up": [
            DIVERGED_AT,
            max((max(one.losses) / one.losses[0] for one in best if not one.warmed), default=None),
        ],
        "gradient of the median layer": [
            prescreen.SILENT,
            min(statistics.median(one.gradients.values()) for one in best),
        ],
        "loss's largest move": [prescreen.STILL, min(_move(one.losses) for one in best)],
        "output, spread by its size": [prescreen.SAME, min(one.spread for one in best)],
        "output, over images by its size": [prescreen.SAME, min(one.varied for one in best)],
        f"loss's fall x {table.STEPS}": [prescreen.SLOW, min((one.fall * table.STEPS for one in paced), default=None)],
    }


def _move(losses: Sequence[float]) -> float:
    return max(abs(loss - losses[0]) for loss in losses) / losses[0]


def worth(among: Sequence[Case]) -> list[dict[str, float]]:
    """What a screen costs and saves in a search at several lengths, in optimizer steps a trial.

    It costs as many steps as fit into its seconds. A rejected trial saves its steps: those of a failed one end where it
    failed, and where a pruner stops bad trials at the first rung, those of the others are a quarter.
    """
    steps = statistics.median(case.screen_seconds / case.step_seconds for case in among)
    made = []
    for length in LENGTHS:
        rejected = [case for case in among if prescreen.reason(case.figures, length, DIVERGED_AT)]
        made.append({"max_steps": length, "rejected": len(rejected) / len(among), "cost": steps})
        for name, part in (("saved", 1.0), ("saved_pruned", FIRST_RUNG)):
            made[-1][name] = sum(min(case.failed_at, part * length) for case in rejected) / len(among)
    return made


def summarize(found: Sequence[Case]) -> dict[str, Any]:
    """All of it, for both parts of the draws."""
    halves = {
        "chosen on": [case for case in found if case.row.draw < CHOSEN],
        "tested on": [case for case in found if case.row.draw >= CHOSEN],
    }
    return {
        "groups": {name: groups(half) for name, half in halves.items()},
        "reasons": dict(Counter(kind(case.rejected) for case in found if case.rejected)),
        "margins": {name: margins(half) for name, half in halves.items()},
        "rejected": [
            {
                "draw": c.row.draw,
                "place": round(c.place, 3),
                "value": c.value if c.value < math.inf else None,
                "reason": c.rejected,
            }
            for c in found
            if c.rejected
        ],
        "worth": worth(found),
        "seconds": statistics.median(case.screen_seconds for case in found),
    }


def markdown(content: Mapping[str, Any]) -> str:
    """The summary as tables."""
    wide = content["widths"][str(table.WIDTH)]
    lines = [
        "| of configs that ended in the | rejected, chosen on | rejected, tested on | at most (95 %) |",
        "|---|---|---|---|",
    ]
    chosen, tested = wide["groups"].values()
    for name in chosen:
        a, b = chosen[name], tested[name]
        lines.append(f"| {name} | {a['rejected']} of {a['of']} | {b['rejected']} of {b['of']} | {b['limit_95']:.1%} |")
    lines += ["", "| figure | threshold | best 20 %, chosen on | best 20 %, tested on |", "|---|---|---|---|"]
    first, second = wide["margins"].values()
    for name, (threshold, nearest) in first.items():
        pair = ["" if one is None else f"{one:.3g}" for one in (nearest, second.get(name, [None, None])[1])]
        lines.append(f"| {name} | {threshold:.3g} | {' | '.join(pair)} |")
    lines += [
        "",
        "| max_steps | rejected | screen, steps a trial | saves | saves, with a pruner |",
        "|---|---|---|---|---|",
    ]
    for one in wide["worth"]:
        shown = f"{one['cost']:.1f} | {one['saved']:.1f} | {one['saved_pruned']:.1f}"
        lines.append(f"| {one['max_steps']} | {one['rejected']:.1%} | {shown} |")
    said = ", ".join(f"{reason}: {number}" for reason, number in wide["reasons"].items())
    took = f"A screen took {wide['seconds']:.2f} s (median)."
    return "\n".join([*lines, "", f"Reasons: {said}. {took}"])


def main(given: Sequence[str] | None = None) -> int:
    """Screen what is missing, write the summary and print it. Exit status: 0 done, 2 a refusal, 130 interrupted."""
    words = list(sys.argv[1:] if given is None else given)
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        draws = arguments.read(words, {"draws": 1000}, {"draws": arguments.at_least(2)})["draws"]
        trained = recorded()
        wanted = [row for row in table.rows(draws) if row.seed == 0 and row.draw in {one["draw"] for one in trained}]
        known = fill(wanted)
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    content = results.start(" ".join(["python -m experiments.search_evidence.screening", *words]), "full")
    found = {width: cases(known, trained, width) for width in (table.WIDTH, table.WIDER)}
    content["widths"] = {str(width): summarize(among) for width, among in found.items() if len(among) > 10}
    content["load"]["after"] = results.load()
    print(markdown(content))
    rejected = [{"width": w, **one} for w, each in content["widths"].items() for one in each.pop("rejected")]
    tables.write(SUMMARY, {k: v for k, v in content.items() if k not in ("rows", "raw")}, rejected)
    return 0


if __name__ == "__main__":
    sys.exit(main())

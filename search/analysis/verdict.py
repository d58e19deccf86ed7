"""A verdict per choice: how each option did after tuning, and which options cannot be told apart."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from denoise.metrics import PARAMETERS
from search.analysis import equivalent_trials
from search.analysis.best_of_n import Chance, OptionTrials
from search.analysis.confirmation import Comparison, Finalist
from search.analysis.learning_rate import LrRange, lr_range
from search.analysis.ranking import distinct
from search.analysis.ranks import Ranks, ranks
from search.space.option import differs_alone, option_of
from search.tracking.record import Record
from search.tracking.tags import Tag

TOP = 3  # the trials whose median stands beside the best
DIVERGED = 1e30
ENDED = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class Row:
    """One option. `rank` is shared; `behind`: the least by which it is worse than the first, None where not shown.

    values: the objectives of its complete trials, ascending; low, high: the interval of the best; best, median_top
    and these are None where no trial completed. confirmed: what the fresh seeds say of it beside the baseline's.
    """

    option: str
    rank: int
    trials: int
    complete: int
    pruned: int
    failed: int
    values: list[float] = field(default_factory=list)
    best_trial: int | None = None
    best: float | None = None
    median_top: float | None = None
    low: float | None = None
    high: float | None = None
    behind: float | None = None
    lr_range: LrRange | None = None
    samples_per_second: float | None = None
    parameters: int | None = None
    note: str = ""
    confirmed: str = ""

    @property
    def failure_rate(self) -> float:
        """The part of its trials that failed."""
        return self.failed / self.trials


@dataclass(frozen=True)
class Verdict:
    """What a search says about one choice.

    left_out: trials that differ from the baseline in other choices too, of which none is in the rows; independent: they
    were drawn without regard to each other; seed_sd: the standard deviation over seeds, None where it is not known.
    """

    choice: str
    rows: list[Row]
    left_out: int = 0
    independent: bool = True
    seed_sd: float | None = None
    seed_df: int | None = None

    @property
    def tolerance(self) -> str:
        """What a learning rate is good within, in words."""
        return f"2 standard deviations over seeds ({2 * self.seed_sd:.2g})" if self.seed_sd else "5 %"


def judge(
    records: Sequence[Record],
    choice: str,
    baseline: Sequence[str],
    *,
    asked: Sequence[str] | None = None,
    finalists: Sequence[Finalist] = (),
    seed_sd: float | None = None,
    seed_df: int | None = None,
    independent: bool = True,
    domains: Mapping[str, Mapping[str, Any]] | None = None,
) -> Verdict:
    """Judge the options of a choice (a kind, a kind at a part, a config path with few values), the best first.

    Only trials are compared that differ from the baseline in this choice alone (its parameters among it), of those
    that are `asked` about; None: in this choice and nothing else at all. What was confirmed of an option goes before
    what the search's one seed says of it and the baseline's.
    `domains` as in `Space.describe()["domains"]`, for the edges of the learning rate.
    """

    def alone(overrides: Sequence[str]) -> bool:
        return differs_alone(overrides, choice, baseline, asked)

    ended = [record for record in records if record.outcome in ENDED]
    compared = [record for record in ended if alone(record.overrides)]
    groups: dict[str, list[Record]] = {}
    compared_once, same = equivalent_trials.counted_once(
        compared, lambda record: option_of(record.overrides, choice, baseline)
    )
    for record in compared_once:
        groups.setdefault(option_of(record.overrides, choice, baseline), []).append(record)
    base = option_of(baseline, choice, baseline)
    confirmed = {
        option_of(one.overrides, choice, baseline): one.asked for one in reversed(finalists) if alone(one.overrides)
    }
    arms = {option: OptionTrials(_values(group), len(distinct(group))) for option, group in groups.items()}
    chance = Chance(list(arms.values()), seed_sd, seed_df)
    order = Ranks(arms, chance, base, confirmed)
    placed = ranks(groups, order)
    rows = []
    for option, rank in placed.items():
        arm, first, notes = arms[option], next(iter(placed)), _notes(groups[option])
        notes += [same[option]] if option in same else []
        if option == base:
            notes.insert(0, "baseline")
        behind = order.behind(first, option) if arm.values else None
        if arm.values and rank > 1 and behind is None:
            notes.append(f"not shown to be worse than {first}")
        row = _counted(option, rank, groups[option], ", ".join(notes))
        row = replace(row, confirmed=_confirmed(confirmed.get(option)))
        if arm.values:
            low, high = chance.interval(arm) or (None, None)
            tolerance = 2 * seed_sd if seed_sd else 0.05 * abs(arm.values[0])
            row = replace(
                row,
                values=list(arm.values),
                best_trial=_number(groups[option], arm.values[0]),
                best=arm.values[0],
                median_top=statistics.median(arm.values[:TOP]),
                low=low,
                high=high,
                behind=behind,
                lr_range=lr_range(groups[option], baseline, arm.values[0] + tolerance, domains),
            )
        rows.append(row)
    return Verdict(choice, rows, len(ended) - len(compared), independent, seed_sd, seed_df)


def _confirmed(said: Comparison | None) -> str:
    if said is None:
        return ""
    shown = said.verdict
    if said.interval is not None:
        shown += f": {said.difference:+.4f} ({said.interval[0]:+.4f} to {said.interval[1]:+.4f})"
    return shown + (
        f", diverged on {said.diverged[0]} of {said.both} seeds, that on {said.diverged[1]}" * any(said.diverged)
    )


def _values(group: Sequence[Record]) -> tuple[float, ...]:
    """The objectives of the complete trials, ascending; one above DIVERGED, or none, is no value.

    A trial that repeats another's config has its result, which is no second draw.
    """
    found = [record.value for record in distinct([one for one in group if one.outcome == "complete"])]
    return tuple(sorted(value for value in found if value is not None and abs(value) < DIVERGED))


def _counted(option: str, rank: int, group: Sequence[Record], note: str) -> Row:
    """What can be said of an option without a value: its counts and its cost."""
    outcomes = Counter(record.outcome for record in group)
    rates = [r.samples_per_second for r in group if r.samples_per_second is not None]
    sizes = [r.metrics[PARAMETERS] for r in group if PARAMETERS in r.metrics]
    return Row(
        option=option,
        rank=rank,
        trials=len(group),
        complete=outcomes["complete"],
        pruned=outcomes["pruned"],
        failed=outcomes["failed"],
        samples_per_second=statistics.median(rates) if rates else None,
        parameters=round(statistics.median(sizes)) if sizes else None,
        note=note,
    )


def _notes(group: Sequence[Record]) -> list[str]:
    notes = []
    pruned = sum(record.outcome == "pruned" for record in group)
    if pruned and not _values(group):
        notes.append(f"stopped early, {pruned} trial{'s' if pruned > 1 else ''}")
    kinds = Counter(r.tags.get(Tag.FAILURE_KIND, "failed") for r in group if r.outcome == "failed")
    return notes + [f"{count} {kind}" for kind, count in sorted(kinds.items())]


def _number(group: Sequence[Record], best: float) -> int | None:
    own = [record.number for record in group if record.outcome == "complete" and record.value == best]
    return min((number for number in own if number is not None), default=None)

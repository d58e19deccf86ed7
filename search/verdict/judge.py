"""A verdict per choice: what each option came to after tuning, and which options cannot be told apart."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from search import twins
from search.record import Record, distinct
from search.verdict.arm import Arm, Chance

TOP = 3  # the trials whose median stands beside the best
DIVERGED = 1e30
RATES = 3  # different learning rates are needed to speak of a range
EDGE = 0.05  # of the domain's width: as near as this is at its edge
ENDED = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class LrRange:
    """The learning rates of the trials within the tolerance of their option's best; edge: low, high, both or empty."""

    low: float
    high: float
    decades: float
    edge: str = ""


@dataclass(frozen=True)
class Row:
    """One option. `rank` is shared; `behind`: the least by which it is worse than the first, None where not shown.

    values: the objectives of its complete trials, ascending; low, high: the interval of the best; best, median_top
    and these are None where no trial came to its end.
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

    @property
    def failure_rate(self) -> float:
        """The part of its trials that failed."""
        return self.failed / self.trials


@dataclass(frozen=True)
class Verdict:
    """What a search says about one choice.

    confounded: the trials of an option differ in other choices too (a joint search); independent: they were drawn
    without regard to each other; seed_sd: the standard deviation over seeds, None where it is not known.
    """

    choice: str
    rows: list[Row]
    confounded: bool = False
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
    seed_sd: float | None = None,
    seed_df: int | None = None,
    confounded: bool = False,
    independent: bool = True,
    domains: Mapping[str, Mapping[str, Any]] | None = None,
) -> Verdict:
    """Judge the options of a choice (a kind, a kind at a part, a config path with few values), the best first.

    `domains` as in `Space.describe()["domains"]`, for the edges of the learning rate.
    """
    groups: dict[str, list[Record]] = {}
    records, same = twins.counted_once(records, lambda record: option_of(record.overrides, choice, baseline))
    for record in records:
        if record.outcome in ENDED:
            groups.setdefault(option_of(record.overrides, choice, baseline), []).append(record)
    arms = {option: Arm(_values(group), len(distinct(group))) for option, group in groups.items()}
    chance = Chance(list(arms.values()), seed_sd, seed_df)
    placed = ranks(groups, arms, chance)
    rows = []
    for option, rank in placed.items():
        arm, first, notes = arms[option], next(iter(placed)), _notes(groups[option])
        notes += [same[option]] if option in same else []
        if option == option_of(baseline, choice, baseline):
            notes.insert(0, "baseline")
        behind = chance.behind(arms[first], arm) if arm.values else None
        if arm.values and rank > 1 and behind is None:
            notes.append(f"not shown to be worse than {first}")
        row = _counted(option, rank, groups[option], ", ".join(notes))
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
    return Verdict(choice, rows, confounded, independent, seed_sd, seed_df)


def option_of(overrides: Sequence[str], choice: str, baseline: Sequence[str]) -> str:
    """What a trial has for a choice: its own override, the baseline's, or for a part what the main choice is."""
    for name in (choice, choice.partition("@")[0]):
        for given in (overrides, baseline):
            values = dict(text.lstrip("+").partition("=")[::2] for text in given)
            if name in values:
                return values[name]
    return "as configured"


def ranks(groups: Mapping[str, Sequence[Record]], arms: Mapping[str, Arm], chance: Chance) -> dict[str, int]:
    """Option -> rank, in the order of the table: a new rank begins where one is told apart from the last one's first.

    Options whose trials were all stopped early share the rank after the measured ones; those that only failed
    come last.
    """
    measured = sorted((option for option in arms if arms[option].values), key=lambda o: (arms[o].values[0], o))
    found: dict[str, int] = {}
    rank, first = 0, ""
    for option in measured:
        if not rank or chance.behind(arms[first], arms[option]) is not None:
            rank, first = rank + 1, option
        found[option] = rank
    for stopped in (True, False):
        rest = [o for o in groups if o not in found and any(r.outcome == "pruned" for r in groups[o]) == stopped]
        rank += bool(rest)
        found |= {option: rank for option in sorted(rest)}
    return found


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
    sizes = [r.metrics["cost/parameters"] for r in group if "cost/parameters" in r.metrics]
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
    kinds = Counter(r.tags.get("failure_kind", "failed") for r in group if r.outcome == "failed")
    return notes + [f"{count} {kind}" for kind, count in sorted(kinds.items())]


def _number(group: Sequence[Record], best: float) -> int | None:
    own = [record.number for record in group if record.outcome == "complete" and record.value == best]
    return min((number for number in own if number is not None), default=None)


def lr_range(
    group: Sequence[Record],
    baseline: Sequence[str],
    worst: float,
    domains: Mapping[str, Mapping[str, Any]] | None = None,
) -> LrRange | None:
    """The learning rates of the complete trials whose objective is at most `worst`, and whether they touch an edge.

    None where fewer than RATES came to their end, or where the trials are of several optimizers, whose rates do not
    compare.
    """
    tried: list[tuple[float, float]] = []
    optimizers: set[str] = set()
    for record in group:
        values = dict(text.lstrip("+").partition("=")[::2] for text in record.overrides)
        try:
            rate = float(values["optimizer.lr"])
        except (KeyError, ValueError):
            continue
        optimizers.add(option_of(record.overrides, "optimizer", baseline))
        if record.outcome == "complete" and record.value is not None and rate > 0:
            tried.append((rate, record.value))
    good = [rate for rate, value in tried if value <= worst]
    if len(optimizers) != 1 or len({rate for rate, _ in tried}) < RATES or not good:
        return None
    low, high = min(good), max(good)
    domain = (domains or {}).get(f"optimizer.{next(iter(optimizers))}.lr") or (domains or {}).get("optimizer.lr")
    return LrRange(low, high, math.log10(high / low), _edge(low, high, domain) if domain and "low" in domain else "")


def _edge(low: float, high: float, domain: Mapping[str, Any]) -> str:
    place = math.log10 if domain.get("log") else float
    left, right = place(domain["low"]), place(domain["high"])
    near = EDGE * (right - left)
    at_low, at_high = place(low) <= left + near, place(high) >= right - near
    return "both" if at_low and at_high else "low" if at_low else "high" if at_high else ""

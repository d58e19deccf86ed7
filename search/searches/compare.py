"""Two searches side by side: whether they asked the same, in what they differ, whose best is better."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from denoise.config import plain
from denoise.errors import UserError
from denoise.metrics import VAL_LOSS
from search.analysis.confirmation import Arm, Comparison, Confirmation, comparison
from search.analysis.ranking import best
from search.analysis.sequential_test import FIRST_LOOK, OPEN, SequentialTest
from search.confirmation import stored
from search.confirmation.tested import Tested
from search.console.tables import Fitting
from search.report.confirmation import decimals
from search.space.option import difference
from search.tracking.record import Record, tag
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker

RULER = ("ruler", "search.confirm.test_samples")  # by these a loss is measured, beside the data
ELSEWHERE = (
    *("store", "tracking", "allow", "seed", "trainer.num_threads", "search.name", "search.storage", "search.workers"),
    *("search.lag", "search.silence", "search.shared", "limits"),
)  # keys that change no answer
MOST = 12  # differences that are shown


@dataclass(frozen=True)
class Side:
    """A search as it is compared. data: what names the content of its data; config: its keys, flat."""

    name: str
    records: list[Record]
    baseline: list[str]
    confirmed: Confirmation | None
    data: str
    config: dict[str, Any]

    @property
    def best(self) -> str:
        """What it found, in words."""
        if self.confirmed is not None and (arm := self.confirmed.best) is not None:
            return f"{arm.differs}, test/loss {arm.mean:.{decimals(self.confirmed)}f} on {len(arm.finite)} fresh seeds"
        top = best(self.records)
        if top is None:
            return "no complete trial"
        return f"{difference(top.overrides, self.baseline)}, {VAL_LOSS} {top.value:.4f} on one seed, not confirmed"


@dataclass(frozen=True)
class SideBySide:
    """Two searches; `differ`: key -> both values; why_not: why their losses are not compared, else `found`."""

    sides: tuple[Side, Side]
    differ: dict[str, tuple[Any, Any]]
    why_not: str = ""
    found: Comparison | None = None
    level: float = 0.0
    seeds: int = 0


def compare(books: Tracker, one: Any, other: Any) -> SideBySide:
    """Compare the searches of two runs. Errors: UserError where they are one."""
    if one.info.run_id == other.info.run_id:
        raise UserError(f"{one.info.run_name}: is one search; give two")
    sides = (_side(books, one), _side(books, other))
    a, b = sides
    keys = dict.fromkeys([*a.config, *b.config])
    differ = {key: (a.config.get(key), b.config.get(key)) for key in keys if a.config.get(key) != b.config.get(key)}
    if why_not := _why_not(sides, differ):
        return SideBySide(sides, differ, why_not)
    assert a.confirmed is not None and b.confirmed is not None
    mine, theirs = _paired(a.confirmed.best, b.confirmed.best)
    if len(mine.values) < FIRST_LOOK:
        why = f"they were confirmed on {len(mine.values)} seeds in common, and {FIRST_LOOK} are the least"
        return SideBySide(sides, differ, why)
    settings = (a.confirmed.settings, b.confirmed.settings)
    level, seeds = min(s.level for s in settings), max(s.seeds for s in settings)
    rule = SequentialTest(1, seeds, level)
    error = Tested(books).images_error(mine, theirs)
    return SideBySide(sides, differ, found=comparison(mine, theirs, rule, error), level=level, seeds=len(mine.values))


def _side(books: Tracker, run: Any) -> Side:
    run_id = run.info.run_id
    records, baseline = books.records(run_id), tag(run_id, run.data.tags, Tag.BASELINE, list, [])
    data = next((one.tags[Tag.DATA_SHA256] for one in records if Tag.DATA_SHA256 in one.tags), "")
    with tempfile.TemporaryDirectory() as folder:
        content = plain.load(books.artifact(run_id, "config.yaml", Path(folder)).read_text(), "config.yaml")
    config = {key: value for key, value in _flat(content) if not _within(key, ELSEWHERE)}
    return Side(run.info.run_name, records, baseline, stored.stored(books, run_id), data, config)


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config by their paths."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from _flat(value, f"{path}.{name}" if path else str(name))
    else:
        yield path, node


def _within(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith(f"{place}.") or f".{place}." in key for place in places)


def _why_not(sides: tuple[Side, Side], differ: Mapping[str, Any]) -> str:
    """Why the losses of two searches say nothing of each other; empty where they do."""
    a, b = sides
    if not a.data or a.data != b.data:
        return "their data are not the same"
    if ruler := [key for key in differ if _within(key, RULER)]:
        return f"their losses are measured by other rulers ({', '.join(ruler)})"
    for side in sides:
        if side.confirmed is None or side.confirmed.best is None:
            return f"{side.name} has no confirmation on fresh seeds, and one seed shows little"
    return ""


def _paired(one: Arm | None, other: Arm | None) -> tuple[Arm, Arm]:
    """Two arms on the seeds that both have."""
    assert one is not None and other is not None
    seeds = [seed for seed in one.values if seed in other.values]

    def on(arm: Arm) -> Arm:
        return replace(arm, values={s: arm.values[s] for s in seeds}, runs={s: arm.runs[s] for s in seeds})

    return on(one), on(other)


def table(compared: SideBySide) -> Table:
    """What each is, and in what their configs differ."""
    a, b = compared.sides
    shown = Fitting("")
    for name in ("", a.name, b.name):
        shown.add_column(name, overflow="fold", min_width=20 if name else 10)
    shown.add_row("trials", *(str(sum(one.outcome != "running" for one in side.records)) for side in compared.sides))
    shown.add_row("the best", a.best, b.best, end_section=True)
    for key, values in list(compared.differ.items())[:MOST]:
        shown.add_row(key, *map(_shown, values))
    if len(compared.differ) > MOST:
        shown.caption = f"and {len(compared.differ) - MOST} more keys in which their configs differ"
    return shown


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def sentences(compared: SideBySide) -> list[str]:
    """Whether they asked the same, and whose best is better."""
    a, b = (side.name for side in compared.sides)
    if compared.why_not:
        return [f"Not compared: {compared.why_not}."]
    found, seeds = compared.found, f"{compared.seeds} fresh seeds that both have"
    assert found is not None and compared.sides[0].confirmed is not None
    d = decimals(compared.sides[0].confirmed)
    same = "The same data and the same ruler, so their losses can be compared."
    if found.difference is None or found.interval is None:
        return [same, f"Neither best is shown to be better: both ended on {found.pairs} of {seeds}."]
    low, high = found.interval
    level = f"{100 * compared.level:g} % interval"
    if found.verdict == OPEN:
        return [
            same,
            f"Neither best is shown to be better: {a} minus {b} is {found.difference:+.{d}f} ({level} {low:+.{d}f} to "
            f"{high:+.{d}f}, {seeds}).",
        ]
    better, worse = (a, b) if found.verdict == "better" else (b, a)
    near, far = sorted((abs(low), abs(high)))
    size = f"better by {abs(found.difference):.{d}f}"
    return [
        same,
        f"The best of {better} is {size} than that of {worse} ({level} {near:.{d}f} to {far:.{d}f}, {seeds}).",
    ]

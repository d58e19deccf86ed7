"""A trial as it is shown and compared, and how a person names its difference from the baseline."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from denoise.config import catalog, plain
from denoise.config.compose import parse
from denoise.errors import Refusal, choose
from search.console.printed_commands import WHERE, key

WEIGHTS_AT = "weights_at"  # the tag with what names a training's weights at some steps: {"40": "0f3a..."}
OUTCOMES = ("complete", "pruned", "failed", "running")


@dataclass
class Record:
    """One trial as the tracker has it.

    outcome: complete, pruned, failed or running; overrides: the list that trains it again; value: its objective,
    the last that was measured; failure: why it failed, one line.
    """

    number: int | None
    run_id: str
    outcome: str
    step: int
    overrides: list[str]
    value: float | None = None
    failure: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def samples_per_second(self) -> float | None:
        return self.metrics.get("cost/samples_per_second")

    @property
    def weights_at(self) -> dict[int, str]:
        """Step -> what names its weights then; empty where it was not noted."""
        try:
            return {int(step): str(name) for step, name in json.loads(self.tags.get(WEIGHTS_AT, "{}")).items()}
        except (ValueError, AttributeError, RecursionError):
            return {}


def of_run(run: Any) -> Record:
    """Read a run of MLflow as a record."""
    tags, metrics = dict(run.data.tags), dict(run.data.metrics)
    return Record(
        number=tag(run.info.run_id, tags, "trial", int),
        run_id=run.info.run_id,
        outcome=tag(run.info.run_id, tags, "outcome", OUTCOMES, "running"),
        step=tag(run.info.run_id, tags, "step", int, 0),
        overrides=_overrides(tags.get("overrides", "[]")),
        value=metrics.get("val/loss"),
        failure=tags.get("failure", ""),
        metrics=metrics,
        tags=tags,
    )


def _overrides(text: str) -> Any:
    """A record's overrides, without where it lay: a store may have been moved, and a password is no part of it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return found
    return [each for each in found if not isinstance(each, str) or key(each) not in WHERE]


def check(record: Record) -> Record:
    """Refuse a record whose overrides are not plain choices and values: what comes back from a tracker is data."""
    where = f"RUN={record.run_id}"
    if not isinstance(record.overrides, list) or not all(isinstance(text, str) for text in record.overrides):
        raise Refusal(f"{where}: its overrides are not a list of overrides; the record has been changed")
    check_overrides(record.overrides, where)
    return record


def check_overrides(overrides: Sequence[str], where: str) -> None:
    """Refuse overrides of a record or of a best.yaml that are more than choices and values: they were not typed."""
    for text in overrides:
        if "_target_" in text or text.lstrip("+~").startswith(("allow", "hydra")):
            raise Refusal(f"{where}: its override {text} would choose code to run; that is not taken from a record")
        plain.check_text(text, where)
        try:
            parse(text)
        except Refusal as error:
            raise Refusal(f"{where}: {error}") from error


def tag(run_id: str, tags: Mapping[str, str], name: str, legal: type | Sequence[str], absent: Any = None) -> Any:
    """A run's tag as what it must be: one of these words, a whole number, or JSON of this type.

    Errors: Refusal for anything else: what comes back from a tracker is data.
    """
    if name not in tags:
        return absent
    text, where = tags[name], f"RUN={run_id}: its tag {name}={tags[name]}"
    if not isinstance(legal, type):
        if text not in legal:
            raise Refusal(f"{where}: the record has been changed; {choose(text, legal)}")
        return text
    if legal is int and re.fullmatch(r"\d{1,18}", text, re.ASCII):
        return int(text)
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict | list) and type(found) is legal and all(isinstance(each, str) for each in found):
            return found
    what = {int: "a whole number", list: "a list of overrides", dict: "a mapping"}[legal]
    raise Refusal(f"{where}: the record has been changed; it must be {what}")


def check_known(record: Record) -> Record:
    """Refuse a record with a component that is not here: one of one's own, whose folder was not given."""
    for text in record.overrides:
        kind, _, option = text.partition("=")
        if kind.partition("@")[0] in catalog.KINDS and option not in (*catalog.options(kind.partition("@")[0]), "null"):
            raise Refusal(
                f"RUN={record.run_id}: {text} is no option here; a component of one's own needs its folder: add "
                "--config-dir FOLDER"
            )
    return record


def rank(records: Sequence[Record]) -> list[Record]:
    """Order a leaderboard: complete trials by objective, then those pruned latest, then the failed ones."""

    def place(record: Record) -> tuple[int, int, float, int]:
        value = record.value if record.value is not None and record.value == record.value else float("inf")
        depth = -record.step if record.outcome == "pruned" else 0
        return OUTCOMES.index(record.outcome), depth, value, record.number or 0

    return sorted(records, key=place)


def distinct(records: Sequence[Record]) -> list[Record]:
    """Without trials that have another's config and so its result: the first in this order stays."""
    kept: dict[str, Record] = {}
    for record in records:
        kept.setdefault(record.tags.get("config_sha256") or record.tags.get("duplicate_of") or record.run_id, record)
    return list(kept.values())


def best(records: Sequence[Record]) -> Record | None:
    """The complete trial with the lowest objective, None where there is none."""
    ranked = [record for record in rank(records) if record.outcome == "complete" and record.value == record.value]
    ranked = [record for record in ranked if record.value is not None]
    return ranked[0] if ranked else None


def difference(overrides: Sequence[str], baseline: Sequence[str]) -> str:
    """Name what differs from the baseline: gelu, lion lr 0.0012, ...; "baseline" where nothing does."""
    theirs = set(baseline)
    values = dict(text.partition("=")[::2] for text in overrides)
    shown: list[str] = []
    for kind in catalog.KINDS:
        option = values.get(kind)
        changed = [
            f"{name.partition('.')[2]} {short(value)}"
            for name, value in values.items()
            if name.startswith(f"{kind}.") and f"{name}={value}" not in theirs
        ]
        if option is not None and f"{kind}={option}" not in theirs:
            shown.append(" ".join([option if option != "none" else f"no {kind}", *changed]))
        elif changed:
            shown.append(" ".join([kind, *changed]))
    for name, value in values.items():
        if name.split(".")[0] in catalog.KINDS or f"{name}={value}" in theirs or name == "trainer.num_threads":
            continue
        kind, at, place = name.partition("@")
        shown.append(f"{value} in {place.split('.')[1]}" if at else f"{name} {short(value)}")
    return ", ".join(shown) or "baseline"


def short(value: str) -> str:
    """Three digits of a number; anything else as it is."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value

"""A trial as it is shown and compared, and how the user names its difference from the baseline."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from denoise.config import catalog, plain, trust
from denoise.config.overrides import key
from denoise.config.parse import parse
from denoise.errors import UserError, choose
from denoise.metrics import SAMPLES_PER_SECOND, VAL_LOSS
from search.console.printed_commands import WHERE
from search.tracking.tags import Tag

OUTCOMES = ("complete", "pruned", "failed", "running")
OWN_MODEL = re.compile(r"model\.(?:_target_|data)=(\w+(?:\.\w+)+)")  # legal where its folder was given by hand


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
        return self.metrics.get(SAMPLES_PER_SECOND)

    @property
    def weights_at(self) -> dict[int, str]:
        """Step -> what names its weights then; empty where it was not noted."""
        try:
            return {int(step): str(name) for step, name in json.loads(self.tags.get(Tag.WEIGHTS_AT, "{}")).items()}
        except (ValueError, AttributeError, RecursionError):
            return {}


def of_run(run: Any) -> Record:
    """Read a run of MLflow as a record."""
    tags, metrics = dict(run.data.tags), dict(run.data.metrics)
    return Record(
        number=tag(run.info.run_id, tags, Tag.TRIAL, int),
        run_id=run.info.run_id,
        outcome=tag(run.info.run_id, tags, Tag.OUTCOME, OUTCOMES, "running"),
        step=tag(run.info.run_id, tags, Tag.STEP, int, 0),
        overrides=_overrides(tags.get(Tag.OVERRIDES, "[]")),
        value=metrics.get(VAL_LOSS),
        failure=tags.get(Tag.FAILURE, ""),
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
        raise UserError(f"{where}: its overrides are not a list of overrides; the record has been changed")
    check_overrides(record.overrides, where)
    return record


def check_overrides(overrides: Sequence[str], where: str) -> None:
    """Refuse overrides of a record or of a best.yaml that are more than choices and values: they were not typed."""
    for text in overrides:
        if found := OWN_MODEL.fullmatch(text):
            if not trust.consented(found[1]):
                raise UserError(
                    f"{where}: its {text} names a class of your own; add --config-dir FOLDER, where it lies"
                )
        elif "_target_" in text or text.lstrip("+~").startswith(("allow", "hydra")):
            raise UserError(f"{where}: its override {text} would choose code to run; that is not taken from a record")
        plain.check_text(text, where)
        try:
            parse(text)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def tag(run_id: str, tags: Mapping[str, str], name: str, legal: type | Sequence[str], absent: Any = None) -> Any:
    """A run's tag as what it must be: one of these words, a whole number, or JSON of this type.

    Errors: UserError for anything else: what comes back from a tracker is data.
    """
    if name not in tags:
        return absent
    text, where = tags[name], f"RUN={run_id}: its tag {name}={tags[name]}"
    if not isinstance(legal, type):
        if text not in legal:
            raise UserError(f"{where}: the record has been changed; {choose(text, legal)}")
        return text
    if legal is int and re.fullmatch(r"\d{1,18}", text, re.ASCII):
        return int(text)
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict | list) and type(found) is legal and all(isinstance(each, str) for each in found):
            return found
    what = {int: "a whole number", list: "a list of overrides", dict: "a mapping"}[legal]
    raise UserError(f"{where}: the record has been changed; it must be {what}")


def check_known(record: Record) -> Record:
    """Refuse a record with a component that is not here: one of the user's own, whose folder was not given."""
    for text in record.overrides:
        kind, _, option = text.partition("=")
        kind = kind.partition("@")[0]
        if kind in catalog.KINDS and option != "null" and not catalog.known(kind, option):
            raise UserError(
                f"RUN={record.run_id}: {text} is no option here; a component of your own needs its folder: add "
                "--config-dir FOLDER"
            )
    return record

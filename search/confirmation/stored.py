"""A confirmation as one JSON file with the search's run, so that it can be shown again."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from denoise.errors import UserError
from search.analysis.confirmation import Arm, Comparison, Confirmation, EnsembleScore, Finalist, Settings
from search.analysis.sequential_test import VERDICTS
from search.console.printed_commands import named
from search.report.pareto_front import NAMES
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker

FILE, FORMAT = "confirmation.json", 2


def to_json(found: Confirmation) -> bytes:
    """As JSON; from_json gives it back."""
    return json.dumps({"format": FORMAT, **asdict(found)}, indent=1, allow_nan=False).encode()


def from_json(content: bytes) -> Confirmation:
    """Read what to_json wrote. Errors: UserError for anything else: what comes back from a tracker is data."""
    try:
        plain = json.loads(content)
        if plain.pop("format") != FORMAT:
            raise ValueError("format")
        if plain["cost"] not in (None, *NAMES):
            raise ValueError("cost")
        plain["reference"] = plain["reference"] and _arm(Finalist, plain["reference"])
        plain["finalists"] = [_arm(Finalist, one) for one in plain["finalists"]]
        plain["ensembles"] = [EnsembleScore(**one) for one in plain["ensembles"]]
        return Confirmation(
            **plain | {"settings": Settings(**plain["settings"]), "baseline": _arm(Arm, plain["baseline"])}
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{FILE}: not a confirmation, or of another version; {named('search')} writes it anew"
        ) from error


def _arm(kind: Any, plain: dict[str, Any]) -> Any:
    names = ("runs", "values", "validation", "failures")
    found = plain | {name: {int(k): v for k, v in plain[name].items()} for name in names}
    found["interval"] = _tuple(plain["interval"])
    if kind is Finalist:
        found |= {name: plain[name] and _comparison(plain[name]) for name in ("untuned", "tuned")}
    return kind(**found)


def _comparison(plain: dict[str, Any]) -> Comparison:
    if plain["verdict"] not in VERDICTS:
        raise ValueError("verdict")
    return Comparison(**plain | {"interval": _tuple(plain["interval"]), "diverged": _tuple(plain["diverged"])})


def _tuple(pair: Sequence[Any] | None) -> Any:
    return tuple(pair) if pair is not None else None


def missing(tracker: Tracker, parent: str, arms: Sequence[Arm]) -> list[str]:
    """Of the runs of these arms those that are deleted in MLflow, or gone from it."""
    active = {run.info.run_id for run in tracker.find(**{Tag.PARENT: parent, Tag.ROLE: "confirm"})}
    return [run for arm in arms for run in arm.runs.values() if run not in active]


def stored(tracker: Tracker, parent: str) -> Confirmation | None:
    """The confirmation of a search; None where it has none that can be read here."""
    try:
        return load(tracker, parent)
    except UserError:
        return None


def load(tracker: Tracker, parent: str) -> Confirmation | None:
    """The confirmation of the search with this run id; None where it has none. Errors: UserError."""
    if Tag.CONFIRMED not in tracker.client.get_run(parent).data.tags:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return from_json(tracker.artifact(parent, FILE, Path(folder)).read_bytes())

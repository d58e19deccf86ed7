"""The description on a training's page in MLflow, in markdown: what differs, how it ended, how to train it again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from denoise.metrics import VAL_LOSS
from search.console import mlflow_pages
from search.console.printed_commands import command, given
from search.console.redact import line
from search.tracking.tags import Tag

if TYPE_CHECKING:
    from search.tracking.tracker import Run, Tracker

TRAININGS = ("trial", "confirm", "transfer", "train", "reproduce")  # roles of a run that has one


def tag(tags: Mapping[str, str], tracker: Tracker, run: Run | None = None) -> dict[str, str]:
    """The tag that is a run's description. `run`: where it ends, or has begun; of a search that is the report."""
    if tags.get(Tag.ROLE) == "search" and run is None:
        trials = f"[the trials]({mlflow_pages.view_page(tracker.experiment_id, mlflow_pages.TRIALS)})"
        return {str(Tag.NOTE): f"Not ended yet: the answer will stand here. So far there are {trials}"}
    if tags.get(Tag.ROLE) not in TRAININGS:
        return {}
    blocks = [_differs(tags), _outcome(tags, run.value if run is not None else math.nan)]
    if run is not None and tags.get(Tag.OUTCOME) in ("complete", "pruned"):
        blocks.append(f"Train it again: {code(again(run.run_id))}")
    blocks.append(_belongs(tags, tracker))
    return {str(Tag.NOTE): "\n\n".join(filter(None, blocks))}


def again(run_id: str) -> str:
    """The command that trains a run again; a store may be moved, so its place is left to the reader."""
    words = ["store=FOLDER" if text.startswith("store=") else text for text in given]
    return command(words, "reproduce", run_id)


def code(text: str) -> str:
    """A text as it stands, on one line: markdown and HTML in it are letters."""
    return f"`` {line(text).replace('``', '` `')} ``" if "`" in text else f"`{line(text)}`"


def link(tracker: Tracker, run_id: str, text: str) -> str:
    """A link to the page of a run."""
    shown = "".join(f"\\{letter}" if letter in r"\[]<>*_`" else letter for letter in text)
    return f"[{shown}]({mlflow_pages.run_page(tracker.experiment_id, run_id)})"


def _differs(tags: Mapping[str, str]) -> str:
    if tags.get(Tag.DIFFERS) == "baseline":
        return "The baseline's config"
    if Tag.DIFFERS in tags:
        return f"Differs from the baseline: **{code(tags[Tag.DIFFERS])}**"
    overrides = json.loads(tags.get(Tag.OVERRIDES, "[]"))
    return f"Overrides: {code(' '.join(overrides))}" if overrides else "The default config"


def _outcome(tags: Mapping[str, str], value: float) -> str:
    outcome, step = tags.get(Tag.OUTCOME), tags.get(Tag.STEP, "0")
    if outcome is None:
        return "Not ended yet"
    shown = f", {VAL_LOSS} **{value:.6g}**" if math.isfinite(value) else ""
    said = f"{outcome.capitalize()} after {step} steps{shown}"
    if tags.get(Tag.FAILURE):
        said += f": {code(tags[Tag.FAILURE])}"
    twin = tags.get(Tag.DUPLICATE_OF) or tags.get(Tag.MIGRATED_FROM)
    return f"{said}, taken from run {code(twin)}, which has the same config" if twin else said


def _belongs(tags: Mapping[str, str], tracker: Tracker) -> str:
    if of := tags.get(Tag.REPRODUCES):
        return f"Run {link(tracker, of, of)}, trained again"
    if not (parent := tags.get(Tag.PARENT)):
        return ""
    said = f"search {link(tracker, parent, tracker.name(parent))}"
    if tags.get(Tag.TRIAL):
        return f"Trial {tags[Tag.TRIAL]} of {said}"
    if of := tags.get(Tag.TRANSFERS):
        return f"The config of run {link(tracker, of, of[:8])} at another shape, in {said}"
    return f"On the fresh seed {tags.get(Tag.SEED, '-')}, in the confirmation of {said}"

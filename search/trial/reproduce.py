"""Train a recorded run again, from its MLflow record alone, and compare."""

from dataclasses import dataclass

from rich.text import Text

from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.metrics import TEST_LOSS, VAL_LOSS
from denoise.training import train
from search.console.tables import Fitting
from search.tracking import weights
from search.tracking.record import Record, check_known, tag
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker
from search.trial import provenance
from search.trial.config_hash import config_sha256
from search.trial.run import ProgressDisplay, open_run, perform, run_name


@dataclass(frozen=True)
class Reproduction:
    """The recorded run and the new one, side by side."""

    rows: list[tuple[str, str, str]]
    same: bool
    same_machine: bool
    other_machine: str
    other_code: bool
    run_id: str
    put_back: bool = False  # the weights of the recorded run, which were gone or others


def reproduce(tracker: Tracker, recorded: Record, screen: ProgressDisplay) -> Reproduction:
    """Train the record's overrides up to the step it reached, and set objective and weights beside the recorded.

    What comes back from the tracker is data: overrides, composed and checked against the local catalogue.
    Errors: UserError where they are not legal here, or where the config or the data are no longer the same.
    """
    if recorded.outcome not in ("complete", "pruned"):
        raise UserError(f"RUN={recorded.run_id}: ended as {recorded.outcome}, there is no result to compare with")
    train.keep_in(tracker.store)
    composed = compose(check_known(recorded).overrides)
    if config_sha256(composed) != recorded.tags.get(Tag.CONFIG_SHA256):
        raise UserError(
            f"RUN={recorded.run_id}: its overrides give another config here than the one recorded, so the catalogue "
            "or your own code has changed since; compare with its artifact config.yaml"
        )
    here, there = provenance.describe(), tag(recorded.run_id, recorded.tags, Tag.MACHINE, dict, {})
    stop_at = recorded.step if recorded.outcome == "pruned" else None
    of, name = {str(Tag.REPRODUCES): recorded.run_id}, run_name(f"again {recorded.run_id[:8]}")
    run = open_run(tracker, composed, recorded.overrides, "reproduce", name, **of)
    done = perform(composed, run, screen, stop_at=stop_at)
    if done.kind == "refused":
        raise UserError(f"RUN={recorded.run_id}: cannot be trained again; {done.failure}")
    new = tracker.record(run.run_id)
    names = [VAL_LOSS, *sorted(name for name in recorded.metrics if name.startswith("val/loss_band_"))]
    names += [TEST_LOSS] if TEST_LOSS in recorded.metrics else []
    rows = [(name, repr(recorded.metrics.get(name)), repr(new.metrics.get(name))) for name in names]
    tags: list[str] = [Tag.WEIGHTS_SHA256, Tag.DATA_SHA256]
    if Tag.ANEW in recorded.tags:  # of a record that is lost there may be less
        names, tags = (
            names[: None if "val/loss_band_0" in recorded.metrics else 1],
            [t for t in tags if t in recorded.tags],
        )
    tags += [Tag.INITIALIZER_SHA256] if Tag.INITIALIZER_SHA256 in recorded.tags else []  # of the file it started from
    rows += [(name, recorded.tags.get(name, "-")[:16], new.tags.get(name, "-")[:16]) for name in tags]
    rows.append(("steps", str(recorded.step), str(done.step)))
    differs = ", ".join(f"{key} {there.get(key)} (here {here[key]})" for key in here if here[key] != there.get(key))
    same, other_code = all(a == b for _, a, b in rows), recorded.tags.get(Tag.CODE) != provenance.code()
    back = same and done.result is not None and weights.put_back(tracker, recorded, done.result)
    return Reproduction(rows, same, not differs, differs, other_code, run.run_id, back)


def table(found: Reproduction, title: str) -> Fitting:
    """What was compared, and where it differs."""
    shown = Fitting(title)
    for name in ("", "recorded", "new", ""):
        shown.add_column(name, overflow="fold", min_width=7)
    for name, old, new in found.rows:
        shown.add_row(name, old, new, "same" if old == new else Text("differs", "bold red"))
    return shown

"""Whether what is found at one shape holds at another: some of a search's configs, trained at that one too."""

from collections.abc import Container, Sequence

import numpy as np

from denoise.config.compose import compose
from denoise.config.overrides import Overrides
from denoise.errors import UserError
from search.analysis import ranking
from search.report.progress import TrialDisplay
from search.runtime import watchdog
from search.study.settings import Transfer
from search.tracking import record
from search.tracking import tracker as tracking
from search.tracking.record import Record
from search.tracking.tags import Tag
from search.tracking.tracker import Run, Tracker
from search.trial.config_hash import config_sha256
from search.trial.run import open_run, perform, run_name


def at(overrides: Sequence[str], settings: Transfer) -> list[str]:
    """The overrides of a config at the other shape."""
    return list(Overrides(overrides).with_values({settings.path: settings.to}))


def check(settings: Transfer, baseline: Sequence[str], free: Container[str]) -> None:
    """Refuse a shape that the baseline cannot have, or that is searched itself (`free`)."""
    if settings.to is None:
        return
    if settings.path in free:
        raise UserError(
            f"search.transfer.path={settings.path}: is searched here; leave search.domains.{settings.path} out"
        )
    try:
        compose(at(baseline, settings))
    except UserError as error:
        raise UserError(f"search.transfer: {error}") from error


def chosen(records: Sequence[Record], trials: int) -> list[Record]:
    """Complete trials with distinct configs, spread evenly from the best to the worst."""
    complete = [r for r in ranking.distinct(ranking.rank(records)) if r.outcome == "complete"]
    places = sorted({round(float(i)) for i in np.linspace(0, len(complete) - 1, min(trials, len(complete)))})
    return [complete[i] for i in places] if complete else []


def train(
    settings: Transfer, tracker: Tracker, parent: Run, records: Sequence[Record], display: TrialDisplay
) -> tuple[list[Record], list[Record]]:
    """Train what is missing of the chosen configs at the other shape: (as they were, as they are there), in order.

    Each is a run of the search with the tag role=transfer; the same call after a kill trains only what did not end.
    """
    if settings.to is None:
        return [], []
    small, large = chosen(records, settings.trials), []
    known = {r.tags.get(Tag.CONFIG_SHA256): r for r in _runs(tracker, parent)}
    display.phase(f"at {settings.path}={settings.to}", len(small))
    for one in small:
        overrides = at(record.check_known(record.check(one)).overrides, settings)
        composed = compose(overrides)
        found = known.get(config_sha256(composed))
        if found is None or found.outcome == "running":
            if found is not None:
                tracker.client.delete_run(found.run_id)
            display.trial_starts(one.number, f"{settings.path} {settings.to}")
            name = run_name(
                "transfer" if one.number is None else f"transfer {one.number:>03}", f"{settings.path} {settings.to}"
            )
            run = open_run(
                tracker, composed, overrides, "transfer", name, parent.run_id, **{str(Tag.TRANSFERS): one.run_id}
            )
            with watchdog.voice.at(f"{name} at {settings.path}={settings.to}"):
                done = perform(composed, run, display)
            display.trial_ends(done.outcome, done.step, done.value, done.samples_per_second, done.failure)
            found = tracker.record(run.run_id)
        large.append(found)
    return small, large


def _runs(tracker: Tracker, parent: Run) -> list[Record]:
    return [tracking.record(run) for run in tracker.find(**{Tag.PARENT: parent.run_id, Tag.ROLE: "transfer"})]

"""One search: ask, train, tell, until the trials are done; the same command goes on where it was stopped."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optuna.study import Study
from optuna.trial import Trial

from denoise.config import raw_compose
from denoise.refusal import Refusal
from search import attempt, carry, confirm, record, report, stops, storage
from search.attempt import Session, one_trial
from search.carry import Carried
from search.confirm import Confirmation
from search.display import Display
from search.mode import OVER
from search.plan import Search
from search.plan import prepare as prepare
from search.record import Record
from search.tracking import Run, Tracker, open_tracker
from search.trial import open_run, plain_config


@dataclass(frozen=True)
class Answer:
    """What a search found: its trials, best first, the one to take (None: none came to its end), what was confirmed."""

    records: list[Record]
    best: Record | None
    confirmation: Confirmation | None


def run(search: Search, study: Study, tracker: Tracker, display: Display, began: float) -> Answer:
    """Run the trials that are still missing, and confirm the best on fresh seeds.

    `began` is when the opening of the stores did, on the monotonic clock: the cost of searching counts from there.
    """
    session = Session(search, study, tracker, open_parent(tracker, search), display)
    if search.left_out:
        display.note(f"not in this search's space, so not tried first: {'; '.join(search.left_out)}")
    try:
        take_over(session)
        display.continues(len(session.own(*OVER)))
        for stale in storage.left_behind(study):
            one_trial(session, Trial(study, stale._trial_id), again=True)
        while search.mode.missing(session.trials()) > 0:
            if said := stops.reached(search.settings.stop, session.own(*OVER)):
                display.note(f"ends here: {said}")
                break
            search.mode.refill(study)
            one_trial(session, study.ask())
        session.searched = time.monotonic()
        records = record.rank(tracker.records(session.parent.run_id))
        found = confirmed(session, records)
    except KeyboardInterrupt:
        session.parent.interrupt()
        raise
    finish(session, records, found, began)
    return Answer(records, winner(records, found), found)


def open_stores(search: Search) -> tuple[Study, Tracker]:
    """Open the study and the tracker, what lies elsewhere first, so that a refusal leaves nothing behind here."""
    cfg = search.composed.cfg

    def opened() -> Study:
        return storage.open_study(search.storage_url, search.name, cfg, search.mode)

    elsewhere = opened() if cfg.search.storage else None
    tracker = open_tracker(cfg.tracking.uri, cfg.tracking.experiment, search.store)
    return elsewhere or opened(), tracker


def open_parent(tracker: Tracker, search: Search) -> Run:
    """The MLflow run of the search: the one that is there, or a new one."""
    found = tracker.find(role="search", study=search.name)
    if found:
        return tracker.run(found[0].info.run_id)
    cfg = search.composed.cfg
    params = {"mode": search.mode.name, "trials": search.total, "kinds": ", ".join(search.space.options)}
    params |= {"data": search.composed.choices["data"], "model": search.composed.choices["model"], "seed": cfg.seed}
    params |= {"sampler": search.composed.choices["sampler"], "pruner": search.composed.choices["pruner"]}
    tags = {"role": "search", "study": search.name, "baseline": json.dumps(search.baseline)}
    parent = tracker.start(search.name, tags, params)
    described = json.dumps(search.space.describe(), indent=1).encode()
    parent.artifacts({"space.json": described, "config.yaml": report.yaml(plain_config(search.composed))})
    return parent


def take_over(session: Session) -> None:
    """Carry over what an older study of the same question found, where the space has changed since; once.

    Each trial that is carried over is a run of this search too, with the old one's figures.
    """
    study, search = session.study, session.search
    if "family" not in study.user_attrs:
        old = carry.latest(study._storage, search.family, search.name)
        if old is not None:
            found = carry.collect(old, search.space, search.mode.points[0], search.settings.caps)
            changed = carry.difference(old.user_attrs.get("space", {}), search.space.describe())
            study.set_user_attr("carries", said(found, changed))
            study.add_trials(found.trials[len(session.trials()) :])  # a kill may have torn it
        study.set_user_attr("space", search.space.describe())
        study.set_user_attr("opened", time.time())
        study.set_user_attr("family", search.family)  # the last one: it says that the taking over is done
    if "carries" in study.user_attrs:
        session.display.note(study.user_attrs["carries"])
    carried = [trial for trial in session.trials() if "carried" in trial.user_attrs]
    there = {r.number for r in session.tracker.records(session.parent.run_id)} if carried else set()
    for trial in carried:
        if trial.number not in there:
            copy_run(session, trial)


def said(found: Carried, changed: str) -> str:
    """One line on what was carried over."""
    outside = f", {found.outside} lie outside the new space" if found.outside else ""
    return f"the space has changed ({changed}): {len(found.trials)} trials of {found.study} are carried over{outside}"


def copy_run(session: Session, trial: Any) -> None:
    """Note a trial that was carried over in this search's books."""
    old = session.tracker.record(trial.user_attrs["carried"])
    overrides, number = trial.user_attrs["overrides"], str(trial.number)
    tags = {"trial": number, "carried_from": old.run_id}
    composed = raw_compose(tuple(overrides))
    new = open_run(session.tracker, composed, overrides, "trial", f"trial-{number:>03}", session.parent.run_id, **tags)
    new.metrics(old.step, old.metrics)
    kept = ("step", "weights_sha256", "failure", "failure_kind", "failure_layer")
    new.end(old.outcome, {name: old.tags[name] for name in kept if name in old.tags})


def confirmed(session: Session, records: list[Record]) -> Confirmation | None:
    """Train the finalists and the baseline on fresh seeds, as far as it is not done."""
    search = session.search
    asked = confirm.settings(search.settings.confirm, search.composed.cfg.seed)
    if not asked.finalists:
        return None
    session.display.phase("confirming on fresh seeds", asked.most)
    chosen = search.mode.candidates(records)
    found = confirm.confirm(asked, session.tracker, session.parent, chosen, search.baseline, session.display)
    return found if found.finalists else None


def winner(records: Sequence[Record], found: Confirmation | None) -> Record | None:
    """The trial to take: of the baseline and the finalists the best over the fresh seeds, else the search's best."""
    top = record.best(records)
    if found is None:
        return top
    runs = {one.run_id: one for one in records}
    means = [(one.mean_difference, one.run_id) for one in found.finalists if one.mean_difference is not None]
    means += [(0.0, found.baseline.run_id)] if found.baseline.run_id in runs else []
    return runs.get(min(means)[1], top) if means else top


def finish(session: Session, records: list[Record], found: Confirmation | None, began: float) -> None:
    """Write the leaderboard, the best config and the cost of searching to the parent run, and close it."""
    search, parent = session.search, session.parent
    top = winner(records, found)
    files = report.files(records, search.baseline, search.name)
    if top is not None and top.value is not None:
        files["best.yaml"] = report.best_yaml(top, search.name)
        parent.metrics(len(records), {"best/val/loss": top.value})
        parent.flush({"best": top.run_id})
        crown(session, top)
    parent.artifacts(files)
    if session.trained:
        results = [one.result for one in session.trained if one.result is not None]
        training = sum(result.training_seconds + result.evaluating_seconds for result in results)
        wall = session.searched - began
        parent.metrics(
            len(records),
            {"search/wall_seconds": wall, "search/training_seconds": training, "search/overhead": 1 - training / wall},
        )
    parent.end("complete")


def crown(session: Session, top: Record) -> None:
    """Register the best trial's weights, where they are: a trial that was not trained here has another run's."""
    origins = [top.tags[name] for name in ("duplicate_of", "carried_from") if name in top.tags]
    files = [attempt.weights_file(session.search, run_id) for run_id in (top.run_id, *origins)]
    weights = next((path.read_bytes() for path in files if path.exists()), None)
    for run_id in origins if weights is None else ():
        with suppress(Refusal), TemporaryDirectory() as folder:
            weights = session.tracker.artifact(run_id, "weights/weights.safetensors", Path(folder)).read_bytes()
    if weights is not None:
        Run(session.tracker, top.run_id).artifacts({"weights.safetensors": weights}, "weights")
        session.tracker.champion(top.run_id)
    for path in attempt.weights_file(session.search, "").parent.glob("best-*"):
        path.unlink()

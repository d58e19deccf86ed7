"""What a search ends with: the finalists confirmed, the choices judged, the best trial's config and weights kept."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from denoise.refusal import Refusal
from search import agreement, attempt, confirm, importance, record, report, transfer, verdict
from search.attempt import Session
from search.confirm import Confirmation, trainings
from search.record import Record
from search.tracking import Run
from search.verdict import Findings

INDEPENDENT = ("random", "qmc")  # samplers whose draws do not follow what went well before


@dataclass(frozen=True)
class Answer:
    """What a search found: its trials, best first, the one to take (None: none came to its end), what was confirmed."""

    records: list[Record]
    best: Record | None
    confirmation: Confirmation | None
    findings: Findings


def end(session: Session, began: float) -> Answer:
    """Confirm, judge, keep what is to be kept and close the search's run; done again it trains nothing twice."""
    searched = time.monotonic()
    search, parent = session.search, session.parent
    records = record.rank(session.tracker.records(parent.run_id))
    found = confirmed(session, records)
    findings = judged(session, records, found)
    top = winner(records, found)
    files = report.files(records, search.baseline, search.name) | verdict.files(findings)
    files |= search.mode.files(records)
    if top is not None and top.value is not None:
        files["best.yaml"] = report.best_yaml(top, search.name)
        parent.metrics(len(records), {"best/val/loss": top.value})
        parent.flush({"best": top.run_id})
        attempt.keep_weights(session)
        crown(session, top)
    parent.artifacts(files)
    results = [one.result for one in session.trained if one.result is not None]
    if results:
        training = sum(result.training_seconds + result.evaluating_seconds for result in results)
        training += session.crew.trained if session.crew is not None else 0.0
        wall, workers = searched - began, session.search.division.workers
        cost = {"wall_seconds": wall, "training_seconds": training, "overhead": 1 - training / (wall * workers)}
        parent.metrics(len(records), {f"search/{name}": value for name, value in cost.items()})
    parent.end("complete")
    return Answer(records, top, found, findings)


def so_far(session: Session) -> Answer:
    """The trials of a search that other processes go on with; what waits on this disk is kept with their runs."""
    attempt.keep_weights(session)
    records = record.rank(session.tracker.records(session.parent.run_id))
    return Answer(records, record.best(records), None, Findings([]))


def judged(session: Session, records: list[Record], found: Confirmation | None) -> Findings:
    """A verdict for each choice, what matters how much, and whether a short look and another width agree."""
    search = session.search
    sd, df = (found.seed_sd, found.seed_df) if found is not None else (None, None)
    verdicts = [
        verdict.judge(
            records,
            choice,
            search.baseline,
            seed_sd=sd,
            seed_df=df,
            confounded=search.mode.confounded,
            independent=search.composed.choices["sampler"] in INDEPENDENT,
            domains=search.space.describe()["domains"],
        )
        for choice in search.mode.choices()
    ]
    curves = {trial.number: trial.intermediate_values for trial in session.trials()}
    settings = search.settings.transfer
    small, large = transfer.train(settings, session.tracker, session.parent, records, session.display)
    widths = [agreement.transfer(small, large, settings.path)] if large else []
    share = importance.measure(session.study, search.composed.cfg.seed) if len(search.mode.objectives) == 1 else None
    return Findings(verdicts, share, agreement.rungs(curves, pruner=search.composed.cfg.pruner), widths)


def confirmed(session: Session, records: list[Record]) -> Confirmation | None:
    """Train the finalists and the baseline on fresh seeds, as far as it is not done."""
    search = session.search
    asked = confirm.settings(search.settings.confirm, search.composed.cfg.seed)
    if not asked.finalists:
        return None
    session.display.phase("confirming on fresh seeds", asked.most)
    chosen = search.mode.candidates(records)
    given = (session.tracker, session.parent, chosen, search.baseline, session.display, session.crew)
    found = trainings.confirm(asked, *given)
    return found if found.finalists else None


def winner(records: Sequence[Record], found: Confirmation | None) -> Record | None:
    """The trial to take: of the baseline and the finalists the best over the fresh seeds, else the search's best.

    Of those that failed on the fewest seeds; where the baseline is not among them there are no differences to it, and
    the means over the seeds decide.
    """
    top, runs = record.best(records), {one.run_id: one for one in records}
    if found is None:
        return top
    ended = [arm for arm in (found.baseline, *found.finalists) if arm.run_id in runs and arm.finite]
    fewest = min((len(arm.failures) for arm in ended), default=0)
    sound = [arm for arm in ended if len(arm.failures) == fewest]
    means = [(sum(arm.finite) / len(arm.finite), arm.run_id) for arm in sound]
    if found.baseline in sound:
        rivals = [one for one in found.finalists if one in sound]
        means = [(one.mean_difference, one.run_id) for one in rivals if one.mean_difference is not None]
        means.append((0.0, found.baseline.run_id))
    return runs[min(means)[1]] if means else top


def crown(session: Session, top: Record) -> None:
    """Register the best trial's weights; a trial that was not trained here has another run's."""
    tracker = session.tracker
    origins = [top.tags[name] for name in ("duplicate_of", "carried_from") if name in top.tags]
    for run_id in (top.run_id, *origins):
        with suppress(Refusal), TemporaryDirectory() as folder:
            weights = tracker.artifact(run_id, "weights/weights.safetensors", Path(folder))
            if run_id != top.run_id:
                Run(tracker, top.run_id).artifacts({"weights.safetensors": weights.read_bytes()}, "weights")
            tracker.champion(top.run_id)
            return
    session.display.note("the best trial's weights were not kept: make reproduce trains it again")

"""What a search ends with: the finalists confirmed, the choices judged, the best config and its weights kept."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from denoise.config.legal import is_lightning
from denoise.config.overrides import Overrides
from denoise.errors import UserError
from denoise.fault import Outside
from denoise.training import train
from search.analysis import equivalent_trials, importance, ranking, verdict
from search.analysis.confirmation import Confirmation
from search.analysis.rank_correlation import rungs, transfer
from search.confirmation import sample_quality, stored
from search.confirmation.run import confirm as train_again
from search.confirmation.trainings import Trainings
from search.console.printed_commands import WHERE, make
from search.report import confirmation as confirmation_report
from search.report import findings as findings_report
from search.report import leaderboard
from search.report import report as report_of
from search.report.findings import Findings
from search.report.forms import markdown, optuna_files, page
from search.report.report import SearchReport
from search.study import objective, width_transfer
from search.study.session import Session
from search.tracking import registered, weights
from search.tracking.record import Record
from search.tracking.registered import Candidate
from search.tracking.tags import Tag
from search.tracking.tracker import Run

INDEPENDENT = ("random", "qmc")  # samplers whose draws do not follow what went well before


@dataclass(frozen=True)
class Answer:
    """What a search found: its trials, best first, the run to take (None: none completed), what was confirmed.

    best: of what was confirmed a run on a fresh seed, where nothing was the search's best trial.
    """

    records: list[Record]
    best: Record | None
    confirmation: Confirmation | None
    report: SearchReport


def end(session: Session, began: float) -> Answer:
    """Confirm, judge, keep what is to be kept and close the search's run; done again it trains nothing twice."""
    searched = time.monotonic()
    search, parent = session.search, session.parent
    records = ranking.rank(session.tracker.records(parent.run_id))
    for line in equivalent_trials.lines(records):
        session.display.note(line)
    found = confirmed(session, records)
    findings = judged(session, records, found)
    files = leaderboard.files(records, search.baseline, search.name) | findings_report.files(findings)
    files |= search.mode.files(records)
    trainings = Trainings(session.tracker, parent)
    quality = sample_quality.measured(search.composed.cfg, trainings, found, session.display)
    for one in found.arms if found is not None else ():
        trainings.keep(one)
    top = winner(session, records, found)
    if top is not None:
        arm = found.best if found is not None else None
        says = (
            f"{search.name}: {confirmation_report.take(found)}"
            if found is not None and arm
            else leaderboard.says(top, search.name)
        )
        config = [text for text in (arm or top).overrides if text not in search.space.machine]
        files["best.yaml"] = leaderboard.best_yaml(config, says, top.run_id)
        parent.metrics(len(records), worth(top, found))
        parent.flush({Tag.BEST: top.run_id})
        objective.keep_weights(session)
        crown(session, top, found)
    trainings.clear()
    parent.artifacts(files)
    for_optuna(session, records, findings)
    results = [one.result for one in session.trained if one.result is not None]
    if results:
        training = sum(result.training_seconds + result.evaluating_seconds for result in results)
        training += session.pool.trained if session.pool is not None else 0.0
        wall, workers = searched - began, session.search.division.workers
        cost = {"wall_seconds": wall, "training_seconds": training, "overhead": 1 - training / (wall * workers)}
        parent.metrics(len(records), {f"search/{name}": value for name, value in cost.items()})
    whole = search.mode.asked_about is None and search.mode.cost is None
    starts = search.mode.starts(session.trials()) if whole else []
    typed = json.dumps(list(Overrides(search.typed).without(WHERE)))
    parent.flush({Tag.STARTS: ", ".join(map(str, starts)), Tag.TYPED: typed})
    report = report_of.read(session.tracker, parent.run_id, found, quality)
    parent.artifacts({page.NAME: page.render(report)})
    parent.metrics(len(records), report.metrics)
    parent.end("complete", {Tag.NOTE: markdown.render(report)})
    return Answer(records, top, found, report)


def so_far(session: Session) -> Answer:
    """The trials of a search that other processes go on with; what waits on this disk is kept with their runs."""
    objective.keep_weights(session)
    records = ranking.rank(session.tracker.records(session.parent.run_id))
    report = report_of.read(session.tracker, session.parent.run_id, None)
    return Answer(records, ranking.best(records), None, report)


def for_optuna(session: Session, records: list[Record], findings: Findings) -> None:
    """Keep what Optuna's users know; the page is large, and a search never fails for want of it."""
    given = (session.search.baseline, session.search.mode.cost, findings.importance, session.display.note)
    for name, content in optuna_files.files(session.study, records, *given).items():
        try:
            session.parent.artifacts({name: content})
        except Outside as error:
            session.display.note(f"{name} is not kept: {error}")


def judged(session: Session, records: list[Record], found: Confirmation | None) -> Findings:
    """A verdict for each choice, what matters how much, and whether a short look and another width agree."""
    search = session.search
    sd, df = (found.seed_sd, found.seed_df) if found is not None else (None, None)
    verdicts = [
        verdict.judge(
            records,
            choice,
            search.baseline,
            finalists=found.finalists if found is not None else (),
            seed_sd=sd,
            seed_df=df,
            asked=search.mode.asked_about,
            independent=search.composed.choices["sampler"] in INDEPENDENT,
            domains=search.space.describe()["domains"],
        )
        for choice in search.mode.choices()
    ]
    curves = {trial.number: trial.intermediate_values for trial in session.trials()}
    settings = search.settings.transfer
    small, large = width_transfer.train(settings, session.tracker, session.parent, records, session.display)
    widths = [transfer(small, large, settings.path)] if large else []
    share = importance.measure(session.study, search.composed.cfg.seed) if len(search.mode.objectives) == 1 else None
    return Findings(verdicts, share, rungs(curves, pruner=search.composed.cfg.pruner), widths)


def confirmed(session: Session, records: list[Record]) -> Confirmation | None:
    """Train the finalists and the baseline on fresh seeds, as far as it is not done."""
    search, mode = session.search, session.search.mode
    asked = search.settings.confirm
    if not asked.finalists:  # what was confirmed before stays so
        return stored.stored(session.tracker, session.parent.run_id)
    given = (session.tracker, session.parent, mode.candidates(records), search.baseline, session.display)

    def begin() -> None:
        if session.pool is not None:
            session.pool.begin(search.name)

    found = train_again(asked, *given, session.study.storage, begin, tuned=mode.tuned(records), cost=mode.cost)
    return found if found.finalists else None


def winner(session: Session, records: list[Record], found: Confirmation | None) -> Record | None:
    """The run to take: of the confirmation's best arm the most typical seed's, else the search's best trial."""
    arm = found.best if found is not None else None
    if arm is None:
        return ranking.best(records)
    return session.tracker.record(Trainings(session.tracker, session.parent).kept(arm))


def worth(top: Record, found: Confirmation | None) -> dict[str, float]:
    """What the best is worth: over the fresh seeds where there are some, else its one value."""
    arm = found.best if found is not None else None
    if arm is None:
        return {"best/val/loss": top.value} if top.value is not None else {}
    shown = {"best/test/loss": arm.mean, "best/val/loss": sum(arm.validation.values()) / len(arm.validation)}
    if arm.interval is not None:
        shown |= {"best/test/loss_low": arm.interval[0], "best/test/loss_high": arm.interval[1]}
    return shown


def crown(session: Session, top: Record, found: Confirmation | None) -> None:
    """Register the best run's weights, if they are better than what is registered for the same question.

    A trial that was not trained here has another run's weights.
    """
    tracker, search = session.tracker, session.search
    arm = found.best if found is not None else None
    says = confirmation_report.take(found) if found is not None and arm else leaderboard.says(top, search.name)
    value = {name.removeprefix("best/"): each for name, each in worth(top, found).items()}
    new = Candidate(top, session.parent.run_id, value, says, arm.runs if arm is not None else {})
    model = registered.name(
        search.composed, train.data_sha256(search.composed.cfg), search.settings.confirm.test_samples
    )
    draws = not is_lightning(search.composed.cfg.model)  # what else draws by code of its own
    session.parent.flush({Tag.MODEL: model} if draws else {})
    origins = [top.tags[name] for name in (Tag.DUPLICATE_OF, Tag.MIGRATED_FROM) if name in top.tags]
    for run_id in (top.run_id, *origins):
        with suppress(UserError), TemporaryDirectory() as folder:
            path = weights.fetch(tracker, replace(top, run_id=run_id), Path(folder))
            if run_id != top.run_id:
                Run(tracker, top.run_id).artifacts({weights.NAME: path.read_bytes()}, "weights")
            if draws and (said := registered.crown(tracker, model, new, search.composed, path.read_bytes())):
                session.display.note(said)
            return
    session.display.note(f"the best run's weights were not kept: {make('reproduce')} trains it again")

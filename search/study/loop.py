"""One search: ask, train, tell, until the trials are done; the same command resumes it."""

import json
import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module

import torch
from optuna.trial import FrozenTrial, TrialState

from denoise.inference.profile import mosaic
from search.confirmation import study as confirming
from search.confirmation.trainings import Trainings
from search.report import leaderboard
from search.report.progress import Display, TrialDisplay
from search.runtime import retry, watchdog
from search.space.option import difference
from search.storages import database, liveness
from search.storages.attributes import OfStudy, OfTrial
from search.storages.lock import lock
from search.storages.trials import OVER, Trials, earlier
from search.study import budget, finish, migrate, reconcile
from search.study.finish import Answer
from search.study.migrate import Migration
from search.study.objective import begin, one_trial
from search.study.session import Session
from search.study.settings import Stop
from search.study.spec import Search
from search.study.spec import prepare as prepare
from search.tracking import saved_view
from search.tracking.tags import Tag
from search.tracking.tracker import Run, Tracker, open_tracker
from search.trial import provenance
from search.trial.config_hash import plain_config
from search.workers import shared
from search.workers.pool import WorkerPool

WAIT_SECONDS = 0.2  # so often a process with nothing to do looks whether the others' trials have ended


def run(
    search: Search, study: Trials, tracker: Tracker, display: Display, began: float, pool: WorkerPool | None = None
) -> Answer:
    """Run the trials that are still missing, and confirm the best on fresh seeds.

    Several processes may run one search: each takes the next trial, and the last one ends it. Those of `crew` are
    started and waited for here. `began` is when the opening of the stores did, on the monotonic clock: the cost of
    searching counts from there.
    """
    retry.begin(search.composed.cfg.tracking.patience, display.note)
    try:
        with lock(search.store, search.name, url=search.storage_url):
            compared = reconcile.compare(search, study, tracker)
            reconcile.refuse(compared, search, study, tracker)
            session = _join(search, study, tracker, display, pool)
            with session.parent.resumable():
                take_over(session)
                reconcile.settle(session, compared)
        with session.parent.resumable():
            return _run(session, display, began, pool)
    finally:
        retry.end()


def _run(session: Session, display: Display, began: float, pool: WorkerPool | None) -> Answer:
    search, study, tracker = session.search, session.study, session.tracker
    if pool is not None:
        pool.show(display)
        pool.note_death = partial(confirming.note_death, study)
    if search.left_out:
        display.note(f"not in this search's space, so not tried first: {'; '.join(search.left_out)}")
    if search.settings.equal == "time" and (search.division.workers > 1 or liveness.elsewhere(study)):
        display.note("search.equal=time: beside other processes a trial is slower, and is given fewer steps")
    done = len(session.own(*OVER))
    display.continues(done, best_so_far(session))
    if done and study.user_attrs.get(OfStudy.CODE) != provenance.code():
        display.note(
            "the code in src/denoise has changed since this search began; search.name=NAME begins anew with it"
        )
    several = pool is not None and search.division.workers > 1
    if search.mode.lag == 1 and (several or liveness.elsewhere(study)):
        display.note("begun with search.lag=1, one trial at a time; to share one begin it with search.lag=6")
    elif search.settings.lag not in (None, search.mode.lag):
        display.note(f"search.lag={search.settings.lag}: it began with {search.mode.lag}, and keeps that")
    stale = len(liveness.abandoned(study, session.trials(TrialState.RUNNING)))
    if pool is not None and search.mode.lag > 1 and search.missing(session.trials()) + stale > 1:
        pool.begin(search.name)
    shown = {trial.number for trial in session.own(*OVER)}
    while next_trial(session) or shared.waits(session):
        shared.show(session, display, shown)
    if pool is not None:
        import_module("optuna.importance")  # for the end, while others still train
        pool.wait()
        while next_trial(session):  # what a worker left that died at last
            pass
    if others := liveness.elsewhere(study):
        display.note(f"{len(others)} trials still run in other processes: the last of these ends the search")
        return finish.so_far(session)
    is_open, confirm = shared.is_open(study), search.settings.confirm

    def meanwhile() -> None:
        display.note("another process is ending this search")
        if display.searching and confirming.there(study) is not None:
            display.phase("confirming on fresh seeds", (1 + confirm.finalists) * confirm.seeds)
        while confirming.take_part(study, tracker, session.parent, display):
            pass

    with lock(search.store, f"{search.name}-end", meanwhile, search.storage_url):
        if is_open and not search.settings.shared and not shared.is_open(study):  # a worker: it has ended
            Trainings(tracker, session.parent).clear()
            return finish.so_far(session)
        reconcile.close(session)
        answer = finish.end(session, began)
        shared.end(study)
        return answer


def join(
    search: Search, study: Trials, tracker: Tracker, display: TrialDisplay, pool: WorkerPool | None = None
) -> Session:
    """Take part in a search, as the first or beside others: how it is divided says the one that begins it."""
    retry.begin(search.composed.cfg.tracking.patience, display.note)
    with lock(search.store, search.name, url=search.storage_url):
        return _join(search, study, tracker, display, pool)


def _join(search: Search, study: Trials, tracker: Tracker, display: TrialDisplay, pool: WorkerPool | None) -> Session:
    divided = study.user_attrs.get(OfStudy.DIVISION)
    if divided is None:
        divided = inherited(search, study) or [search.division.threads, search.division.lag]
        study.set_user_attr(OfStudy.DIVISION, divided)
    threads, lag = divided[0], int(divided[1] or 1)
    if threads is not None:
        torch.set_num_threads(threads)
    search = search.divided(threads, lag)
    watchdog.voice.silence = search.settings.silence
    for death in watchdog.deaths:
        confirming.note_death(study, death)
    return Session(search, study, tracker, open_parent(tracker, search), display, pool)


def inherited(search: Search, study: Trials) -> list[int | None] | None:
    """How a study that is there already is divided, this one or that whose trials it will take over; None for none.

    Before there were several processes it was one, with as many threads as torch took.
    """
    old = study if study.get_trials(deepcopy=False) else migrate.latest(study, search.family)
    return None if old is None else list(old.user_attrs.get(OfStudy.DIVISION, [None, 1]))


def next_trial(session: Session) -> bool:
    """Run the next trial, first one that was left behind; False where all are done, or a budget is used up.

    A trial is begun when all those are over whose results it is to know, `lag` or more before it. It is drawn before
    the next one is begun. So what is drawn does not depend on how many processes search, nor on how fast they are.
    """
    study, search = session.study, session.search
    with session.lock():
        trials = session.trials()
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        number = len(trials)
        stale = liveness.abandoned(study, running)
        trial: FrozenTrial | None = None
        if stale:
            liveness.count_death(study, stale[0])
            liveness.claim(study, stale[0].number)
            trial = study.trial(stale[0].number)
        elif search.missing(trials) <= 0:
            return False
        elif all(other.number > number - search.mode.lag for other in running):
            if used_up(session, trials, number):
                return False
            start = search.mode.next_start(trials)
            trial = begin(session, trials, start) if start is not None else None
    if trial is None:
        time.sleep(WAIT_SECONDS)
    else:
        one_trial(session, trial, trials, again=bool(stale))
    return True


def best_so_far(session: Session) -> tuple[float, int | None, str] | None:
    """Objective, number and difference from the baseline of the best trial that is done; None where there is none."""
    top = min(session.trials(TrialState.COMPLETE), key=lambda trial: trial.values[0], default=None)
    if top is None:
        return None
    return top.values[0], top.number, difference(top.user_attrs[OfTrial.OVERRIDES], session.search.baseline)


def used_up(session: Session, trials: Sequence[FrozenTrial], number: int) -> bool:
    """Tell whether those that trial `number` is to know, which are all over, have used up a budget."""
    stop = session.search.settings.stop
    if stop != Stop():
        known = trials[: earlier(trials, number - session.search.mode.lag)]
        own = [trial for trial in known if OfTrial.MIGRATED not in trial.user_attrs]
        if said := budget.reached(stop, own):
            session.display.note(f"ends here: {said}")
            return True
    return False


def open_stores(search: Search) -> tuple[Trials, Tracker]:
    """Open the study and the tracker, what lies elsewhere first, so that a refusal leaves nothing behind here."""
    cfg = search.composed.cfg
    elsewhere = open_study(search) if cfg.search.storage else None
    tracker = open_tracker(cfg.tracking.uri, cfg.tracking.experiment, search.store)
    with lock(search.store, "open"):  # two processes that make the tables at once break them
        return elsewhere or open_study(search), tracker


def open_study(search: Search) -> Trials:
    """Open the study of a search, or make it. Errors: UserError where the storage cannot be used."""
    cfg = search.composed.cfg
    own = None if cfg.search.storage else search.store
    return database.open_study(search.storage_url, search.name, len(search.mode.objectives), own)


def open_parent(tracker: Tracker, search: Search) -> Run:
    """The MLflow run of the search: the one that is there, or a new one; what a kill left out of it is put in."""
    found = tracker.find(role="search", study=search.name)
    found.sort(key=lambda run: -len(tracker.find(**{Tag.PARENT: run.info.run_id})) if found[1:] else 0)
    for twin in found[1:]:  # a reply was lost, and the run made twice; one that has trials stays
        if not tracker.find(**{Tag.PARENT: twin.info.run_id}):
            tracker.client.delete_run(twin.info.run_id)
    cfg, chosen = search.composed.cfg, search.composed.choices
    params = {"mode": search.mode.name, "trials": search.total, "kinds": ", ".join(search.space.options)}
    params |= {name: chosen[name] for name in ("data", "model", "sampler", "pruner")} | {"seed": cfg.seed}
    if found:
        parent = tracker.run(found[0].info.run_id)
    else:
        tags: dict[str, str] = {Tag.ROLE: "search", Tag.STUDY: search.name, Tag.BASELINE: json.dumps(search.baseline)}
        tags |= {Tag.PLACES: json.dumps(search.places)}
        tags |= {Tag.COST: search.mode.cost} if search.mode.cost else {}
        parent = tracker.start(search.name, tags, params)
        saved_view.write(tracker)
    with parent.resumable():
        if found:
            parent.params({name: value for name, value in params.items() if name not in found[0].data.params})
        if not all(tracker.has(parent.run_id, name) for name in ("space.json", "config.yaml", "data.png")):
            described = json.dumps(search.space.describe(), indent=1).encode()
            files = {"space.json": described, "config.yaml": leaderboard.yaml(plain_config(search.composed))}
            parent.artifacts(files | ({"data.png": picture} if (picture := mosaic(cfg)) else {}))
    return parent


def take_over(session: Session) -> None:
    """Carry over what an older study of the same question found, where the space has changed since; once."""
    study, search = session.study, session.search
    if OfStudy.FAMILY not in study.user_attrs:
        old = migrate.latest(study, search.family)
        if old is not None:
            found = migrate.collect(old, search.space, search.mode.points[0], search.settings.caps)
            changed = migrate.difference(old.user_attrs.get(OfStudy.SPACE, {}), search.space.describe())
            study.set_user_attr(OfStudy.MIGRATES, said(found, changed, old.user_attrs.get(OfStudy.CODE)))
            study.add_trials(found.trials[len(session.trials()) :])  # a kill may have torn it
        study.set_user_attr(OfStudy.SPACE, search.space.describe())
        study.set_user_attr(OfStudy.OPENED, time.time())
        study.set_user_attr(OfStudy.CODE, provenance.code())
        study.set_user_attr(OfStudy.FAMILY, search.family)  # the last one: it says that the taking over is done
    if OfStudy.MIGRATES in study.user_attrs:
        session.display.note(study.user_attrs[OfStudy.MIGRATES])


def said(found: Migration, changed: str, code: str | None) -> str:
    """One line on what was migrated."""
    kept = "1 trial" if len(found.trials) == 1 else f"{len(found.trials)} trials"
    now = f" ({', '.join(found.fixed[:3])} now)" if found.fixed else ""
    outside = f", {found.outside} outside the new space not{now}" if found.outside else ""
    code = "" if code == provenance.code() else "; they were trained with other code of src/denoise"
    return f"the space has changed ({changed}): {kept} of {found.study} migrated{outside}{code}"

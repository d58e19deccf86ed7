"""One trial of a search: drawn, found among what was done before or trained, and told."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from denoise.config.compose import Composed, next_compose
from denoise.evaluation.prescreen import screen
from denoise.metrics import COST, VAL_LOSS
from denoise.training import train
from search.pruners import decision
from search.runtime import watchdog
from search.space.option import difference
from search.storages import liveness, trials
from search.storages.attributes import OfTrial
from search.study import budget
from search.study.modes import Start
from search.study.session import Session, overrides_of
from search.study.spec import Search
from search.tracking import tracker as tracking
from search.tracking import weights
from search.tracking.record import Record
from search.tracking.tags import Tag
from search.tracking.tracker import Run
from search.trial import equal_time, provenance
from search.trial.config_hash import config_sha256
from search.trial.deadly import deadly
from search.trial.run import Rejected, TrialResult, end_rejected, open_run, perform, run_name

OF_IT: tuple[str, ...] = (Tag.MACHINE, Tag.CODE, Tag.DATA_SHA256)  # where, with what and on what a result was found


def begin(session: Session, before: Sequence[FrozenTrial], start: Start) -> FrozenTrial:
    """Draw the next trial, and what makes its cost equal, and insert it. The caller holds the search's lock."""
    search, study, number = session.search, session.study, len(before)
    mode = search.mode
    history, key = mode.history(before, start), mode.key_of(number, start)
    drawn = session.sampler.draw(search.space.suggest, history, number, mode.lag, start.params, key)
    overrides = drawn.overrides + list(start.attrs.get(OfTrial.FURTHER, []))
    if search.settings.equal == "time":
        overrides = equal_time.equal_time(study, overrides, search.baseline)
    attrs = {**start.attrs, OfTrial.WORKER: liveness.me(), OfTrial.OVERRIDES: overrides}
    return study.insert(number, drawn.params, drawn.domains, attrs, drawn.noted)


def one_trial(session: Session, trial: FrozenTrial, before: Sequence[FrozenTrial], again: bool = False) -> None:
    """Train and tell one trial that was begun when `before` were there. With `again` a kill left it behind."""
    at = watchdog.voice.at(f"trial {trial.number}", session.search.settings.trial_seconds, trial=True)
    with liveness.beating(session.study, trial.number), at:
        _one_trial(session, trial, before, again)


def _one_trial(session: Session, trial: FrozenTrial, before: Sequence[FrozenTrial], again: bool) -> None:
    search, study, tracker, display = session.search, session.study, session.tracker, session.display
    number = trial.number
    overrides = overrides_of(search, trial) if again else trial.user_attrs[OfTrial.OVERRIDES]
    display.trial_starts(number, difference(overrides, search.baseline))
    began = time.monotonic()
    tags = {Tag.PARENT: session.parent.run_id, Tag.ROLE: "trial", Tag.TRIAL: str(number)}
    earlier = tracker.find(**tags) if again else []
    ended = next((r for run in earlier if (r := tracking.record(run)).outcome != "running"), None)
    composed = next_compose(tuple(overrides))
    config = config_sha256(composed)
    if ended is not None:
        tracker.client.set_terminated(ended.run_id, tracking.STATUS[ended.outcome])
        kind = ended.tags.get(Tag.FAILURE_KIND, "")
        done = TrialResult(
            ended.run_id, ended.outcome, ended.step, ended.value, ended.failure, kind, None, ended.metrics
        )
        done.weights_at = ended.tags.get(Tag.WEIGHTS_AT, "")
    elif rejected := deadly(trial):
        run = tracker.run(earlier[0].info.run_id) if earlier else _open(session, trial, composed, config)
        done = end_rejected(run, composed, rejected)
    elif (twin := _twin(session, before, number, composed, config)) is not None:
        done = _repeat(session, trial, composed, config, twin)
    else:
        done = _train(session, trial, composed, config, earlier)
    seconds = time.monotonic() - began if done.result is not None else 0.0
    attributes: dict[str, Any] = {OfTrial.CONFIG_SHA256: config, OfTrial.RUN_ID: done.run_id}
    attributes[OfTrial.OUTCOME] = done.kind or done.outcome
    attributes |= {name: value for name, value in done.metrics.items() if name.startswith(COST)}
    attributes |= {Tag.WEIGHTS_AT: done.weights_at} if done.weights_at else {}
    if done.result is not None:
        attributes |= budget.use(done.step, done.metrics, seconds)
    study.note(number, attributes)
    study.constrain(number, budget.constraints(search.settings.caps, done.metrics))
    values = _values(search, done)
    if values is not None:
        study.end(number, TrialState.COMPLETE, values)
    else:
        study.end(number, TrialState.PRUNED if done.outcome == "pruned" else TrialState.FAIL)
    train.forget(_state(search, trial))
    if weights_file(search, done.run_id).exists():
        _forget(session)
    session.trained.append(done)
    display.trial_ends(done.outcome, done.step, done.value, done.samples_per_second, done.failure)


def _values(search: Search, done: TrialResult) -> list[float] | None:
    if done.outcome != "complete" or done.value is None:
        return None
    try:
        values = search.mode.values({**done.metrics, VAL_LOSS: done.value})
    except KeyError:
        return None
    return values if all(value == value for value in values) else None


def _train(session: Session, trial: FrozenTrial, composed: Composed, config: str, earlier: list[Any]) -> TrialResult:
    search, study, tracker, number = session.search, session.study, session.tracker, trial.number
    checkpoint = _state(search, trial)
    if earlier and earlier[0].data.tags.get(Tag.CODE) != provenance.code():
        train.forget(checkpoint)  # a training is of one code from its first step to its last
    if earlier and checkpoint.exists():
        run = tracker.run(earlier[0].info.run_id)
    else:
        for lost in earlier:
            tracker.client.delete_run(lost.info.run_id)
        run = _open(session, trial, composed, config)
    reported = set(trial.intermediate_values)
    max_steps, whole = composed.cfg.trainer.max_steps, search.composed.cfg.trainer.max_steps
    exceeded: list[str] = []
    costs: dict[str, float] = {}
    began, seconds = time.monotonic() - watchdog.voice.waited, search.settings.trial_seconds

    def stop(step: int, value: float, metrics: dict[str, float]) -> bool:
        if seconds is not None and step < max_steps and time.monotonic() - watchdog.voice.waited - began > seconds:
            exceeded.append(f"{watchdog.OVER}={seconds:g}: at step {step}")
            return True
        costs.update({name: each for name, each in metrics.items() if name.startswith(COST)})
        if (cost := search.mode.cost) in metrics:  # by which it is compared, so before its report
            study.note(number, {cost: metrics[cost]})
        if step < max_steps and (said := search.settings.caps.exceeded(metrics)):
            exceeded.append(said)
            return True
        rung = round(step * whole / max_steps)  # of equal time: the step that the baseline would be at
        again = rung in reported
        if not again:
            study.report(number, rung, value)
        if again and rung != max(reported):  # a kill came after: what was decided then is decided again
            return False
        if step >= max_steps:
            return False
        rivals, lag = search.mode.rivals, search.mode.lag
        return decision.should_stop(study, session.pruner, number, rivals, lag, again, session.display.note)

    def admit(cfg: DictConfig, module: Any) -> None:
        metrics = train.counted(cfg, module)
        if said := search.settings.caps.exceeded(metrics):
            raise Rejected("pruned", "cap", said, metrics)
        if search.settings.screen and (rejected := screen(cfg, module).rejected):
            raise Rejected("failed", "screened", rejected, metrics)

    def keep(result: train.Result) -> None:
        _keep(search, run.run_id, result)

    done = perform(composed, run, session.display, stop, checkpoint, keep=keep, admit=admit)
    done.metrics = costs | done.metrics
    if exceeded and done.outcome == "pruned":
        done.kind, done.failure = "cap", exceeded[0]
        run.flush({Tag.FAILURE: f"cap: {exceeded[0]}", Tag.FAILURE_KIND: "cap"})
    return done


def _twin(
    session: Session, before: Sequence[FrozenTrial], number: int, composed: Composed, config: str
) -> Record | None:
    """A complete training of the same config, in this search or, with the same data, code and machine, in another."""
    other = trials.twin(before, config, number - session.search.mode.lag)
    if other is not None:
        return _cheap(session, session.tracker.record(other.user_attrs[OfTrial.RUN_ID]))
    here = {Tag.CONFIG_SHA256: config, Tag.OUTCOME: "complete"}
    here |= {Tag.MACHINE: json.dumps(provenance.describe()), Tag.CODE: provenance.code()}
    for run in session.tracker.find(**here, data_sha256=train.data_sha256(composed.cfg)):
        tags = run.data.tags  # of this search's own trials the study knows, or is not to know yet
        if tags.get(Tag.ROLE) in ("trial", "train") and tags.get(Tag.PARENT) != session.parent.run_id:
            return _cheap(session, tracking.record(run))
    return None


def _cheap(session: Session, record: Record) -> Record | None:
    """A record that is within the caps; None for another."""
    return None if session.search.settings.caps.exceeded(record.metrics) else record


def _open(session: Session, trial: FrozenTrial, composed: Composed, config: str, **tags: str) -> Run:
    overrides = trial.user_attrs[OfTrial.OVERRIDES]
    differs = difference(overrides, session.search.baseline)
    tags = {Tag.TRIAL: str(trial.number), Tag.DIFFERS: differs, Tag.CONFIG_SHA256: config} | tags
    name = run_name(f"{trial.number:>03}", differs)
    return open_run(session.tracker, composed, overrides, "trial", name, session.parent.run_id, **tags)


def found_with(record: Record) -> dict[str, str]:
    """Where, with what and on what a result was found that is taken over; old records do not know their code."""
    return {str(Tag.CODE): "unknown"} | {name: record.tags[name] for name in OF_IT if name in record.tags}


def _repeat(session: Session, trial: FrozenTrial, composed: Composed, config: str, twin: Record) -> TrialResult:
    run = _open(session, trial, composed, config, **{str(Tag.DUPLICATE_OF): twin.run_id}, **found_with(twin))
    run.metrics(twin.step, twin.metrics)
    names = {str(name): twin.tags[name] for name in (Tag.WEIGHTS_SHA256, Tag.WEIGHTS_AT) if name in twin.tags}
    run.end("complete", {Tag.STEP: str(twin.step), **names})
    done = TrialResult(run.run_id, "complete", twin.step, twin.value, "", "", None, twin.metrics)
    done.weights_at = names.get(Tag.WEIGHTS_AT, "")
    return done


def _state(search: Search, trial: FrozenTrial) -> Path:
    return search.store / "checkpoints" / search.name / f"{trial.number}.ckpt"


def weights_file(search: Search, run_id: str) -> Path:
    """Where the weights of a trial that may be the best wait until the search ends."""
    return search.store / "checkpoints" / search.name / f"best-{run_id}.safetensors"


def _keep(search: Search, run_id: str, result: train.Result) -> None:
    weights.keep(weights_file(search, run_id), result.weights)


def _forget(session: Session) -> None:
    """Remove the weights of trials that better ones have overtaken; a trial that is not told yet keeps its own."""
    complete = session.trials(TrialState.COMPLETE)
    places = max(1, session.search.settings.confirm.finalists)
    kept = [*session.search.mode.leaders(complete, places), *(trial for trial in complete if trial.number == 0)]
    files, known = (
        {weights_file(session.search, trial.user_attrs[OfTrial.RUN_ID]) for trial in some} for some in (kept, complete)
    )
    for path in known - files:
        path.unlink(missing_ok=True)


def keep_weights(session: Session) -> None:
    """Put the weights that wait here with their runs; of those that no trial has any more nothing stays."""
    for trial in session.trials(TrialState.COMPLETE):
        run_id = trial.user_attrs[OfTrial.RUN_ID]
        path = weights_file(session.search, run_id)
        with suppress(FileNotFoundError):  # a worker beside this one keeps or forgets it
            if not weights.put(path, Run(session.tracker, run_id)):
                session.display.note(f"trial {trial.number}: the weights that waited are not those that were trained")
            path.unlink()
    if not liveness.elsewhere(session.study):
        for path in weights_file(session.search, "").parent.glob("best-*"):
            path.unlink(missing_ok=True)

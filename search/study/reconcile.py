"""The two books of a search, Optuna's trials and MLflow's runs, compared and made to agree.

Optuna has the last word on what a trial ended as, since the next ones are drawn from it. A run that MLflow lacks is
written anew, one that was deleted there stays so, and what is gone as a whole is refused: nothing is lost either way.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from denoise.config.compose import raw_compose
from denoise.errors import UserError
from denoise.metrics import COST, VAL_LOSS
from search.console.printed_commands import make, named
from search.space.option import difference
from search.storages.attributes import OfTrial
from search.storages.trials import OVER, Trials
from search.study.objective import found_with, weights_file
from search.study.session import Session, overrides_of
from search.study.spec import Search
from search.tracking import weights
from search.tracking.record import OUTCOMES, Record, of_run
from search.tracking.tags import Tag
from search.tracking.tracker import STATUS, Run, Tracker
from search.trial.run import open_run, run_name

ENDS = {  # what a run may say of a trial, the first is written: a complete one whose value is no number is a FAIL
    TrialState.COMPLETE: ("complete",),
    TrialState.PRUNED: ("pruned",),
    TrialState.FAIL: ("failed", "complete"),
}
KEPT = (
    Tag.STEP,
    Tag.WEIGHTS_SHA256,
    Tag.WEIGHTS_AT,
    Tag.FAILURE,
    Tag.FAILURE_KIND,
    Tag.FAILURE_LAYER,
)  # of a run that is copied


@dataclass(frozen=True)
class Compared:
    """A search's runs, the trials that were over, and the runs by trial: those there, deleted, and unknown."""

    parents: list[Any]
    over: list[FrozenTrial]
    runs: dict[int, list[Any]]
    deleted: set[int]
    unknown: dict[int, list[Any]]

    @property
    def missing(self) -> list[FrozenTrial]:
        """The trials that are over and have no run, not even a deleted one."""
        return [trial for trial in self.over if trial.number not in self.runs and trial.number not in self.deleted]


def compare(search: Search, study: Trials, tracker: Tracker) -> Compared:
    """Read both. A run ends before its trial and begins after it, so the trials are read first, and once more last."""
    over = study.get_trials(deepcopy=False, states=OVER)
    runs: dict[int, list[Any]] = {}
    deleted: set[int] = set()
    parents = tracker.find(role="search", study=search.name)
    for parent in parents:
        of_it = {Tag.PARENT: parent.info.run_id, Tag.ROLE: "trial"}
        for run in tracker.find(**of_it):
            runs.setdefault(_number(run), []).append(run)
        deleted |= {_number(run) for run in tracker.deleted(**of_it)}
    known = {trial.number for trial in study.get_trials(deepcopy=False)}
    unknown = {number: runs.pop(number) for number in list(runs) if number not in known}
    return Compared(parents, over, runs, deleted - set(runs), unknown)


def refuse(found: Compared, search: Search, study: Trials, tracker: Tracker) -> None:
    """Refuse a search of whose books one is gone. Errors: UserError with the ways on."""
    anew = f"or begin anew with search.name=NAME and the same {named('search')}"
    if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        raise UserError(
            f"search {search.name}: was begun by an earlier version, which noted trials before it drew them; end it "
            f"with that one, {anew}"
        )
    ended = sum(any(of_run(run).outcome != "running" for run in runs) for runs in found.unknown.values())
    if ended and not study.get_trials(deepcopy=False):
        raise UserError(
            f"search {search.name}: MLflow has {_trials(ended)} of it and Optuna's storage has none: optuna.db was "
            f"removed, or search.storage is another; bring it back, {anew}"
        )
    over = {trial.number for trial in found.over}
    gone = not found.parents and tracker.deleted(role="search", study=search.name)
    if over and (gone or over <= found.deleted):
        what = "its run is" if gone else f"the runs of its {_trials(len(over))} are"
        raise UserError(
            f"search {search.name}: {what} deleted in MLflow; bring back what was deleted in its pages ({make('ui')}, "
            f"State: Deleted), {anew}"
        )


def settle(session: Session, found: Compared) -> None:
    """Make the books agree: one run a trial that is over, closed as Optuna has it; what is done is said."""
    seen = {trial.number for trial in found.over}
    new = [trial for trial in session.trials() if OfTrial.MIGRATED in trial.user_attrs and trial.number not in seen]
    missing = [*found.missing, *new]
    lost = [trial for trial in missing if OfTrial.MIGRATED not in trial.user_attrs]
    if lost:
        session.display.note(
            f"MLflow has no run of {_trials(len(lost))} that Optuna has: written anew, without what only MLflow had"
        )
    if left := sorted(found.deleted & {trial.number for trial in found.over}):
        session.display.note(left_out(left))
    if found.unknown:
        session.display.note(
            f"MLflow has runs of {_trials(len(found.unknown))} that Optuna does not have: deleted there, trained again"
        )
    for run in (run for runs in found.unknown.values() for run in runs):
        session.tracker.client.delete_run(run.info.run_id)
    for trial in missing:
        write_anew(session, trial)
    for trial in found.over:
        runs = found.runs.get(trial.number, [])
        if runs and all(_torn(run) for run in runs):
            for run in runs:
                session.tracker.client.delete_run(run.info.run_id)
            write_anew(session, trial)
        elif runs:
            _one_run(session, trial, runs)


def left_out(numbers: Sequence[int]) -> str:
    """One line on trials whose runs are deleted in MLflow."""
    shown = ", ".join(str(number) for number in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
    return f"deleted in MLflow and left out: trial {shown}; its pages bring them back ({make('ui')}, State: Deleted)"


def missed(tracker: Tracker, parent: str, records: Sequence[Record]) -> list[str]:
    """What a reader of a search is to know of runs that were deleted, a line at most."""
    gone = {_number(run) for run in tracker.deleted(**{Tag.PARENT: parent, Tag.ROLE: "trial"})}
    gone -= {record.number for record in records if record.number is not None}
    return [left_out(sorted(gone))] if gone else []


def close(session: Session) -> None:
    """Close what is open of a search that ends, as a kill or a reply that was lost left it: its trials are over."""
    over = {trial.number: trial for trial in session.trials(*OVER)}
    tracker, parent = session.tracker, session.parent.run_id
    for run in tracker.open(parent):
        number = _number(run)
        if run.data.tags.get(Tag.ROLE) != "trial":
            tracker.client.set_terminated(run.info.run_id, "KILLED")
        elif number in over:
            of_it = {Tag.PARENT: parent, Tag.ROLE: "trial", Tag.TRIAL: str(number)}
            _one_run(session, over[number], tracker.find(**of_it))


def write_anew(session: Session, trial: FrozenTrial) -> None:
    """Write a run for a trial that has none: as another run of it has it, else as Optuna does."""
    attributes, number = trial.user_attrs, str(trial.number)
    if OfTrial.OVERRIDES not in attributes:  # it never began
        return
    migrated, own = attributes.get(OfTrial.MIGRATED, ""), attributes.get(OfTrial.RUN_ID, "")
    old = session.tracker.run_of(migrated or own) if migrated or own else None
    tags: dict[str, str] = {Tag.TRIAL: number} | ({Tag.MIGRATED_FROM: migrated} if migrated else {Tag.ANEW: own})
    tags |= found_with(of_run(old)) if old is not None else {Tag.MACHINE: "{}", Tag.CODE: "unknown"}
    overrides = overrides_of(session.search, trial)
    composed = raw_compose(tuple(overrides))
    tags[Tag.DIFFERS] = difference(overrides, session.search.baseline)
    name = run_name(f"{number:>03}", tags[Tag.DIFFERS])
    run = open_run(session.tracker, composed, overrides, "trial", name, session.parent.run_id, **tags)
    more = {} if migrated else _files(session, run, own)
    if old is not None:
        record = of_run(old)
        run.metrics(record.step, record.metrics)
        run.end(record.outcome, {name: old.data.tags[name] for name in KEPT if name in old.data.tags})
    else:
        for step, value in trial.intermediate_values.items():
            run.metrics(step, {VAL_LOSS: value})
        run.end(ENDS[trial.state][0], _noted(session, trial, run) | more)


def _files(session: Session, run: Run, before: str) -> dict[str, str]:
    """Give a run the files of the one that it stands for, and weights that wait; what is then known of them."""
    waiting, files = weights_file(session.search, before), session.tracker.files
    digest = ""
    if files is not None:
        files.adopt(run.run_id, before)
        if found := files.find(run.run_id, weights.FILE):
            digest = weights.digest(found.read_bytes())
    if before and waiting.exists():
        content = waiting.read_bytes()
        if waited := weights.digest(content):
            digest = waited
            run.artifacts({weights.NAME: content}, "weights")
        waiting.unlink()
    return {Tag.WEIGHTS_SHA256: digest} if digest else {}


def _noted(session: Session, trial: FrozenTrial, run: Run) -> dict[str, str]:
    """What Optuna has of a trial, as tags; its costs and its value go to the run's metrics."""
    attributes = trial.user_attrs
    step = int(attributes.get(OfTrial.STEPS, max(trial.intermediate_values, default=0)))
    if not step and trial.state == TrialState.COMPLETE:  # what had another trial's config was not trained
        step = int(raw_compose(tuple(overrides_of(session.search, trial))).cfg.trainer.max_steps)
    metrics = {name: value for name, value in attributes.items() if name.startswith(COST)}
    run.metrics(step, metrics | ({VAL_LOSS: trial.values[0]} if trial.values else {}))
    tags: dict[str, str] = {Tag.STEP: str(step), Tag.FAILURE: "", Tag.FAILURE_KIND: ""}
    kind = str(attributes.get(OfTrial.OUTCOME, "unknown"))
    if kind not in OUTCOMES:
        tags |= {Tag.FAILURE: f"{kind}: as Optuna has it", Tag.FAILURE_KIND: kind}
    return tags | ({Tag.WEIGHTS_AT: attributes[Tag.WEIGHTS_AT]} if Tag.WEIGHTS_AT in attributes else {})


def _one_run(session: Session, trial: FrozenTrial, runs: Sequence[Any]) -> None:
    """Keep one run of a trial that is over, delete its twins, and let it say what Optuna does."""
    legal = ENDS[trial.state]

    def worse(run: Any) -> tuple[bool, bool]:
        return run.info.run_id != trial.user_attrs.get(OfTrial.RUN_ID), of_run(run).outcome not in legal

    kept, *twins = sorted(runs, key=worse)
    for twin in twins:
        session.tracker.client.delete_run(twin.info.run_id)
    record = of_run(kept)
    value = trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else math.inf
    if record.outcome not in legal or (math.isfinite(value) and record.value != value):  # MLflow keeps no infinity
        run = Run(session.tracker, record.run_id)
        run.end(legal[0], _noted(session, trial, run) | {Tag.CORRECTED: json.dumps([record.outcome, record.value])})
    elif kept.info.status != STATUS[record.outcome]:
        session.tracker.client.set_terminated(record.run_id, STATUS[record.outcome])


def _torn(run: Any) -> bool:
    """Whether a kill came while a run was written anew."""
    return of_run(run).outcome == "running" and bool({Tag.ANEW, Tag.MIGRATED_FROM} & set(run.data.tags))


def _number(run: Any) -> int:
    text = run.data.tags.get(Tag.TRIAL, "")
    return int(text) if text.isdigit() else -1


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"

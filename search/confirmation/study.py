"""The trainings of a confirmation as trials of a study of their own, which every process of the search may take.

One process at a time confirms. It inserts what is missing as running trials that no process has, and waits until they
are over. A process that dies at one leaves it behind, as at any trial, and another takes it up.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from denoise.errors import UserError
from denoise.metrics import TEST_LOSS
from search.analysis.confirmation import Ended
from search.confirmation.trainings import Order, Trainings
from search.report.progress import TrialDisplay
from search.runtime import watchdog
from search.runtime.retry import tried_again
from search.storages import liveness
from search.storages.attributes import OfTrial
from search.storages.lock import lock
from search.storages.trials import CONFIRM, Trials
from search.tracking.record import Record
from search.tracking.tags import Tag
from search.tracking.tracker import Run, Tracker
from search.trial import provenance
from search.trial.deadly import deadly

WAIT_SECONDS = 0.2  # so often it is looked for trainings to take, and whether the others' have ended


def made(storage: BaseStorage, search: str) -> Trials:
    """The study of the confirmation of a search, made where there is none."""
    create = tried_again(optuna.create_study, "the storage")
    create(storage=storage, study_name=search + CONFIRM, direction="minimize", load_if_exists=True)
    return Trials(search + CONFIRM, storage)


def there(study: Trials) -> Trials | None:
    """The study of the confirmation of the search that `study` is of; None where there is none yet."""
    try:
        return study.other(study.study_name + CONFIRM)
    except KeyError:
        return None


def note_death(study: Trials, found: watchdog.Death) -> None:
    """Note how a process of a search ended, for the process that takes up its trial or its training."""
    for each in filter(None, (study, there(study))):
        liveness.note_death(each, found)


def take_part(study: Trials, tracker: Tracker, parent: Run, screen: TrialDisplay) -> bool:
    """Train one training of a search's confirmation that no process has; False where there is none."""
    found = there(study)
    return found is not None and Queue(found, Trainings(tracker, parent), screen).take()


@dataclass
class Queue:
    """The trainings that are to be done; `begin` calls the workers that wait to be told."""

    study: Trials
    trainings: Trainings
    screen: TrialDisplay
    begin: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """Of the storage; empty of one in memory."""
        return str(getattr(self.study.storage, "url", ""))

    @property
    def apart(self) -> bool:
        """Whether other machines may take part: weights go to the runs at once, since any of them may be the last."""
        return self.url.startswith("postgresql")

    def all(self, asked: Sequence[Order]) -> list[Ended]:
        """How trainings ended, each from its run: one that there was, or one trained now, by any process."""
        trainings = self.trainings
        trainings.look()
        lacking = {one.digest: one for one in asked if trainings.ended(one.digest) is None}
        numbers = self._insert(lacking) if lacking else {}
        if len(numbers) > 1:
            self.begin()
        while any(trial.number in numbers.values() for trial in self._running()):
            if not self.take():
                time.sleep(WAIT_SECONDS)
        trainings.look()
        done = {digest: self.study.trial(number).user_attrs for digest, number in numbers.items()}
        for digest, known in done.items():
            self._show(lacking[digest], known)
        found = [trainings.ended(one.digest) or trainings.tracker.record(done[one.digest]["run_id"]) for one in asked]
        for one, each in zip(asked, found, strict=True):
            if self.apart:
                trainings.bring(each.run_id, one.digest)
        return [_as_ended(each) for each in found]

    def take(self) -> bool:
        """Train and tell the first training that no process has; False where there is none."""
        if not self._free():
            return False
        with self._lock():
            if not (free := self._free()):
                return False
            asked, number = self._order(free[0]), free[0].number
            liveness.count_death(self.study, free[0])
            liveness.claim(self.study, number)
        with liveness.beating(self.study, number), watchdog.voice.at(asked.says, trial=True):
            self._train(self.study.trial(number), asked)
        return True

    def _train(self, trial: FrozenTrial, asked: Order) -> None:
        number = trial.number

        def report(step: int, value: float, metrics: dict[str, float]) -> bool:
            self.study.report(number, step, value)
            return False

        self.trainings.look(asked.digest)
        done = self.trainings.ended(asked.digest)  # its process may have died between its run's end and its own
        if done is None:
            self.screen.trial_starts(asked.trial, asked.says)
            done = self.trainings.train(asked, self.screen, report, deadly(trial), put=self.apart)
        found = _as_ended(done)
        self.study.note(number, {OfTrial.RUN_ID: done.run_id, OfTrial.OUTCOME: found.failure or done.outcome})
        if found.value is not None:
            self.study.end(number, TrialState.COMPLETE, [found.value])
        else:
            self.study.end(number, TrialState.FAIL)

    def _insert(self, lacking: dict[str, Order]) -> dict[str, int]:
        """Hash of the config -> the number of its trial, one that is under way or a new one."""
        with self._lock():
            trials, running = self.study.get_trials(deepcopy=False), self._running()
            known = {t.user_attrs.get(OfTrial.CONFIG_SHA256): t.number for t in running if _of_this_code(t)}
            numbers = {digest: known[digest] for digest in lacking if digest in known}
            for trial in liveness.abandoned(self.study, running):
                if trial.number not in numbers.values():  # asked by other settings, or with other code
                    self.study.end(trial.number, TrialState.FAIL)
            for number, digest in enumerate((each for each in lacking if each not in known), len(trials)):
                attrs = {**asdict(lacking[digest]), OfTrial.CONFIG_SHA256: digest, OfTrial.CODE: provenance.code()}
                self.study.insert(number, {}, {}, attrs, {})
                numbers[digest] = number
        return numbers

    def _show(self, asked: Order, known: Mapping[str, Any]) -> None:
        """Show what a process trained that neither is this one nor says to it what it does."""
        if known["worker"] != liveness.me() and known["worker"].get("watcher") != watchdog.this():
            done = self.trainings.tracker.record(known["run_id"])
            self.screen.trial_starts(asked.trial, asked.says)
            self.screen.trial_ends(done.outcome, done.step, done.value, done.samples_per_second, done.failure)

    def _order(self, trial: FrozenTrial) -> Order:
        """What a trial is to train. Errors: UserError where that is none of a search: what a storage has is data."""
        where = f"trial {trial.number} of {self.study.study_name}"
        try:
            found = Order(**{each.name: trial.user_attrs[each.name] for each in fields(Order)})
        except KeyError as error:
            raise UserError(f"{where}: is no training of a confirmation; the storage has been changed") from error
        if found.digest != trial.user_attrs.get(OfTrial.CONFIG_SHA256):
            raise UserError(f"{where}: its overrides give another config here; a component may be another one")
        return found

    def _free(self) -> list[FrozenTrial]:
        """Those that no process has, of the code that is here: they are compared."""
        return [trial for trial in liveness.abandoned(self.study, self._running()) if _of_this_code(trial)]

    def _running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _lock(self) -> AbstractContextManager[None]:
        return lock(self.trainings.tracker.store, self.study.study_name, url=self.url)


def _of_this_code(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(OfTrial.CODE) == provenance.code())


def _as_ended(done: Record) -> Ended:
    value = done.metrics.get(TEST_LOSS, math.nan)
    if done.outcome == "complete" and math.isfinite(value):
        return Ended(done.run_id, value, done.value, "")
    failure = "diverged" if done.outcome == "complete" else done.tags.get(Tag.FAILURE_KIND, done.outcome)
    return Ended(done.run_id, None, None, failure)

"""After a search: the finalists and the baseline again on fresh seeds, paired, judged on images that no search saw."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from optuna.storages import BaseStorage, InMemoryStorage

from search.analysis.confirmation import Arm, Comparison, Confirmation, Finalist, Settings, comparison
from search.analysis.sequential_test import (
    OPEN,
    VERDICTS,
    SequentialTest,
    differences,
    mean_interval,
    pooled_sd,
    run_sequential,
)
from search.confirmation.ensembles import ensembles, still_true
from search.confirmation.finalists import Tuned, start
from search.confirmation.stored import FILE, missing, stored, to_json
from search.confirmation.study import Queue, made
from search.confirmation.trainings import Trainings, order
from search.report.confirmation import sentences
from search.report.plots.confirmation import picture
from search.report.progress import TrialDisplay
from search.tracking.record import Record
from search.tracking.tags import Tag
from search.tracking.tracker import Run, Tracker


def confirm(
    settings: Settings,
    tracker: Tracker,
    parent: Run,
    records: Sequence[Record],
    baseline: Sequence[str],
    screen: TrialDisplay,
    storage: BaseStorage | None = None,
    begin: Callable[[], None] = lambda: None,
    tuned: Tuned | None = None,
    cost: str | None = None,
) -> Confirmation:
    """Train what is missing, judge, evaluate the ensembles; written to the search's run `parent`.

    records: the search's trials, those to be confirmed first in front; baseline: the overrides of its trial 0;
    storage: where its trainings are trials that others may take (None: in memory); begin: calls workers that wait to be
    told; tuned, cost: as in `start`. With nothing to compare nothing is trained or written. The
    weights wait until `Trainings.clear`. Errors: UserError where a recorded config is not legal here.
    """
    found = start(settings, records, baseline, tuned, cost)
    if not found.finalists:
        return found
    trainings = Trainings(tracker, parent)
    before = stored(tracker, parent.run_id)  # of another version, or changed: the trainings are there, it is made anew
    gone = missing(tracker, parent.run_id, before.arms) if before is not None else []
    if gone:
        screen.note(f"deleted in MLflow, so trained again: {len(gone)} of the trainings on fresh seeds")
    if before is not None and not gone and _same(before, found):
        found = before
    else:
        study = made(storage or InMemoryStorage(), trainings.folder.name)
        train_again(found, Queue(study, trainings, screen, begin))
        found.ensembles = ensembles(found, trainings)
        found.ensembles += still_true(before.ensembles, found) if before is not None else []
    said = {word: sum(one.asked.verdict == word for one in found.finalists) for word in VERDICTS}
    parent.artifacts({"confirmation.txt": "\n".join(sentences(found)).encode(), "confirmation.svg": picture(found)})
    parent.artifacts({FILE: to_json(found)})  # the last: where it is, all of it is
    parent.flush({Tag.CONFIRMED: ", ".join(f"{count} {word}" for word, count in said.items() if count)})
    return found


def train_again(found: Confirmation, queue: Queue) -> None:
    """Train the arms on the seeds, as long as a case is open, and compare them."""
    queue.screen.phase("confirming on fresh seeds", found.most)
    arms, judge = found.arms, Judge(found, queue.trainings)

    def train_all(asked: Sequence[tuple[int, int]]) -> None:
        orders = [order(arms[arm], seed, found.settings.test_samples) for arm, seed in asked]
        for (arm, seed), ended in zip(asked, queue.all(orders), strict=True):
            arms[arm].take(seed, ended)

    places, first = range(len(arms)), len(arms) - len(found.finalists)
    rivals = found.rivals
    run_sequential(found.settings.fresh, places[:first], places[1:], train_all, lambda k: judge.decided(rivals[k - 1]))
    judge.all()


class Judge:
    """Compare the arms of a confirmation, images included."""

    def __init__(self, found: Confirmation, trainings: Trainings) -> None:
        self.found, self.images_error = found, trainings.tested.images_error
        self.asked, self.untuned = found.rules

    def decided(self, one: Finalist) -> bool:
        """Whether all that is asked about an arm is clear already."""
        found = self.found
        asked = [(found.baseline, self.untuned)]
        if found.reference is not None and one is not found.reference:
            asked.append((found.reference, self.asked))
        return all(self.clear(one, other, rule) for other, rule in asked)

    def clear(self, one: Arm, other: Arm, rule: SequentialTest) -> bool:
        """Whether one comparison is; the images, which only make an interval wider, are looked at last."""
        numbers = (one.numbers(), other.numbers())
        return rule.verdict(*numbers) != OPEN and rule.verdict(*numbers, self.images_error(one, other)) != OPEN

    def all(self) -> None:
        """Work out every comparison, every arm's own interval, and the spread over seeds."""
        found = self.found
        for one in found.rivals:
            one.untuned = self.compare(one, found.baseline, self.untuned)
            if found.reference is not None and one is not found.reference:
                one.tuned = self.compare(one, found.reference, self.asked)
        for arm in found.arms:
            if len(arm.finite) > 1 and math.isfinite(error := self.images_error(arm)):
                arm.interval = mean_interval(arm.finite, 1 - found.settings.level, error)
        found.seed_sd, found.seed_df = pooled_sd([list(arm.validation.values()) for arm in found.arms])
        beside = (found.reference or found.baseline).numbers()
        found.spread, _ = pooled_sd([differences(one.numbers(), beside) for one in found.finalists])

    def compare(self, one: Arm, other: Arm, rule: SequentialTest) -> Comparison:
        """One arm beside another."""
        return comparison(one, other, rule, self.images_error(one, other))


def _same(before: Confirmation, now: Confirmation) -> bool:
    """Whether an earlier confirmation asked the same of the same runs, and no failure of it is worth another try."""

    def asked(one: Confirmation) -> Any:
        return one.settings, [(arm.run_id, arm.overrides, arm.searched) for arm in one.arms], one.option, one.cost

    failed = [kind for arm in before.arms for kind in arm.failures.values()]
    return asked(before) == asked(now) and all(kind == "diverged" for kind in failed)

"""After a search: the finalists and the baseline again on fresh seeds, paired, and what that shows.

A confirmation is made of trainings that the tracker has (role confirm, under the search's run), found by the hash of
their config: the same call after a kill takes those that ended, goes on with one that left a state, and trains the
rest. One process at a time confirms, with its crew: a run that is under way is taken for one that a kill left.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from denoise import train
from denoise.config import Composed, compose, parse
from denoise.ensemble import Member, evaluate, objective
from denoise.refusal import Refusal
from search import machine, record, tracking
from search.confirm.result import FILE, Arm, Confirmation, Ensemble, Finalist, Settings, load
from search.confirm.shown import picture, sentences
from search.confirm.statistics import VERDICTS, Rule, course
from search.crew.crew import Crew
from search.display import Shows
from search.record import Record
from search.tracking import Run, Tracker
from search.trial import config_sha256, open_run, perform

Ended = tuple[str, float | None, str]  # a training's run, its objective, and of which kind its failure is


def confirm(
    settings: Settings,
    tracker: Tracker,
    parent: Run,
    records: Sequence[Record],
    baseline: Sequence[str],
    screen: Shows,
    crew: Crew | None = None,
) -> Confirmation:
    """Train what is missing, judge, evaluate the ensembles; written to the search's run `parent`.

    records: the search's trials, those to be confirmed first in front; baseline: the overrides of its trial 0; crew:
    other processes that train. With nothing to compare nothing is trained or written. Errors: Refusal where a recorded
    config is not legal here.
    """
    found = start(settings, records, baseline)
    if not found.finalists:
        return found
    trainings = Trainings(tracker, parent)
    try:
        before = load(tracker, parent.run_id)
    except Refusal:  # of another version, or changed: the trainings are there, and it is written anew
        before = None
    if before is not None and _same(before, found):
        trainings.clear()
        return before
    arms: list[Arm] = [found.baseline, *found.finalists]
    rule = Rule(len(found.finalists), settings.seeds, settings.level)

    def train_all(asked: Sequence[tuple[int, int]]) -> list[float]:
        done = trainings.all([(arms[arm], seed) for arm, seed in asked], screen, crew)
        return [arms[arm].take(seed, *one) for (arm, seed), one in zip(asked, done, strict=True)]

    course(rule, settings.fresh, train_all)
    found.judge(rule)
    found.ensembles = ensembles(found, trainings)
    found.ensembles += still_true(before.ensembles, found) if before is not None else []
    said = {word: sum(one.verdict == word for one in found.finalists) for word in VERDICTS}
    parent.artifacts(
        {
            FILE: found.to_json(),
            "confirmation.txt": "\n".join(sentences(found)).encode(),
            "confirmation.svg": picture(found),
        }
    )
    parent.flush({"confirmed": ", ".join(f"{count} {word}" for word, count in said.items() if count)})
    trainings.clear()
    return found


def start(settings: Settings, records: Sequence[Record], baseline: Sequence[str]) -> Confirmation:
    """Choose the finalists: the first complete trials with distinct configs, never the baseline's.

    A trial with another's value to the last bit is the same function under another name, such as gelu_sigma with
    sigma=1 and gelu: it is not confirmed beside it.
    """
    own = _key(config_sha256(compose(list(baseline))), baseline)
    complete = [r for r in records if r.outcome == "complete" and r.value is not None and math.isfinite(r.value)]
    keys = {r.run_id: _key(r.tags.get("config_sha256", ""), r.overrides) for r in complete}
    base = next((r for r in complete if keys[r.run_id] == own or r.overrides == list(baseline)), None)
    chosen: list[Record] = []
    known = {own} if base is None else {own, base.value}
    for one in complete:
        if one is not base and not {keys[one.run_id], one.value} & known:
            chosen.append(one)
            known |= {keys[one.run_id], one.value}
    finalists = [
        Finalist(r.run_id, r.number, record.difference(r.overrides, baseline), r.overrides, r.value)
        for r in chosen[: settings.finalists]
    ]
    arm = Arm("", None, "baseline", list(baseline), None)
    if base is not None:
        arm = Arm(base.run_id, base.number, "baseline", list(baseline), base.value)
    best = min((r.value for r in complete if r.value is not None), default=None)
    return Confirmation(settings, arm, finalists, baseline_best=base is not None and base.value == best)


def _key(digest: str, overrides: Sequence[str]) -> str:
    return digest or json.dumps(list(overrides))


def _same(before: Confirmation, now: Confirmation) -> bool:
    """Whether an earlier confirmation asked the same of the same runs, and no failure of it is worth another try."""

    def asked(one: Confirmation) -> Any:
        arms: list[Arm] = [one.baseline, *one.finalists]
        return one.settings, [(arm.run_id, arm.overrides, arm.searched) for arm in arms]

    failed = [kind for arm in (before.baseline, *before.finalists) for kind in arm.failures.values()]
    return asked(before) == asked(now) and all(kind == "diverged" for kind in failed)


def with_seed(overrides: Sequence[str], seed: int) -> list[str]:
    """The overrides with another seed."""
    return [*(text for text in overrides if parse(text).key_or_group != "seed"), f"seed={seed}"]


@dataclass
class Trainings:
    """The trainings of one confirmation: those that the tracker has, and what is missing."""

    tracker: Tracker
    parent: Run
    known: dict[str, list[Any]] = field(init=False)  # hash of the config -> its runs, the latest first
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.known = {}
        mine = {"mlflow.parentRunId": self.parent.run_id, "role": "confirm", "code": machine.code()}
        for run in self.tracker.find(**mine):  # of one code: they are compared
            self.known.setdefault(run.data.tags.get("config_sha256", ""), []).append(run)
        name = self.tracker.client.get_run(self.parent.run_id).info.run_name
        self.folder = self.tracker.store / "checkpoints" / name

    def weights(self, digest: str) -> Path:
        """Where a training's weights wait for the ensembles."""
        return self.folder / f"confirm-{digest[:16]}.safetensors"

    def clear(self) -> None:
        """Remove the weights."""
        for path in self.folder.glob("confirm-*"):
            path.unlink()

    def all(self, asked: Sequence[tuple[Arm, int]], screen: Shows, crew: Crew | None = None) -> list[Ended]:
        """How arms on seeds ended, each from its run or a new training; with a crew several at the same time."""
        if crew is None:
            return [self.one(arm, seed, screen) for arm, seed in asked]

        def own(order: Mapping[str, Any]) -> Ended:
            return ordered(order, self.tracker, self.parent, screen)

        orders = [{"arm": [arm.run_id, arm.trial, arm.differs, arm.overrides], "seed": seed} for arm, seed in asked]
        missing = [
            k for k, (arm, seed) in enumerate(asked) if self.ended(config_sha256(self.composed(arm, seed))) is None
        ]
        if len(missing) > 1:
            crew.begin(self.folder.name)
        new = dict(zip(missing, crew.share([orders[k] for k in missing], own), strict=True))
        return [tuple(new[k]) if k in new else self.one(arm, seed, screen) for k, (arm, seed) in enumerate(asked)]

    def one(self, arm: Arm, seed: int, screen: Shows) -> Ended:
        """How an arm on a seed ended, from its run or a new one."""
        overrides = with_seed(arm.overrides, seed)
        composed = self.composed(arm, seed)
        done = self.ended(config_sha256(composed))
        if done is None:
            screen.trial_starts(arm.trial, f"{arm.differs}, seed {seed}")
            done = self.train(arm, seed, composed, overrides, screen)
        complete = done.outcome == "complete" and done.value is not None
        failure = "" if complete else done.tags.get("failure_kind", done.outcome)
        return done.run_id, done.value if complete else None, failure

    def composed(self, arm: Arm, seed: int) -> Composed:
        """The config of an arm on a seed, checked: what comes back from a tracker is data. Errors: Refusal."""
        found = Record(arm.trial, arm.run_id, "complete", 0, with_seed(arm.overrides, seed))
        return compose(record.check_known(record.check(found)).overrides)

    def ended(self, digest: str) -> Record | None:
        """The training of this config that ended, complete or diverged; another failure may not come again."""
        for run in self.known.get(digest, []):
            one = tracking.record(run)
            if one.outcome == "complete" or one.tags.get("failure_kind") == "diverged":
                if run.info.status == "RUNNING":  # a kill came between its outcome and its end
                    self.tracker.client.set_terminated(one.run_id, tracking.STATUS[one.outcome])
                return one
        return None

    def train(self, arm: Arm, seed: int, composed: Composed, overrides: list[str], screen: Shows) -> Record:
        """Train an arm on a seed; a run that a kill left is gone on with where it left a state, else deleted."""
        digest = config_sha256(composed)
        checkpoint = self.folder / f"confirm-{digest[:16]}.ckpt"
        left = [run.info.run_id for run in self.known.get(digest, []) if tracking.record(run).outcome == "running"]
        going_on = left[0] if left and checkpoint.exists() else None
        for lost in left:
            if lost != going_on:
                self.tracker.client.delete_run(lost)
        if going_on is not None:
            run = self.tracker.run(going_on)
        else:
            train.forget(checkpoint)
            name = f"confirm-{arm.trial if arm.trial is not None else 'baseline':>03}-{seed}"
            tags = {"confirms": arm.run_id or "baseline", "seed": str(seed)}
            run = open_run(self.tracker, composed, overrides, "confirm", name, self.parent.run_id, **tags)

        def keep(result: train.Result) -> None:
            path = self.weights(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            save_file({name: tensor.cpu().contiguous() for name, tensor in result.weights.items()}, partial)
            partial.replace(path)

        done = perform(composed, run, screen, checkpoint=checkpoint, keep=keep)
        train.forget(checkpoint)
        rate = done.result.metrics.get("cost/samples_per_second") if done.result else None
        screen.trial_ends(done.outcome, done.step, done.value, rate, done.failure)
        return Record(
            None, done.run_id, done.outcome, done.step, overrides, done.value, tags={"failure_kind": done.kind}
        )


def ordered(order: Mapping[str, Any], tracker: Tracker, parent: Run, screen: Shows) -> Ended:
    """Train what is ordered, after a look at what there is of it: a process that took the order may have died."""
    return Trainings(tracker, parent).one(*_read(order), screen)


def _read(order: Mapping[str, Any]) -> tuple[Arm, int]:
    run_id, trial, differs, overrides = order["arm"]
    return Arm(run_id, trial, differs, overrides, None), int(order["seed"])


def ensembles(found: Confirmation, trainings: Trainings) -> list[Ensemble]:
    """Each arm's seeds as one model, and the finalists' best seeds as one, from the weights that are here."""
    made: list[Ensemble] = []
    best: list[tuple[float, str, Member]] = []
    for arm in (found.baseline, *found.finalists):
        members: list[tuple[float, str, Member]] = []
        for seed, value in arm.values.items():
            composed = trainings.composed(arm, seed)
            path = trainings.weights(config_sha256(composed))
            if value is not None and path.exists():
                members.append((value, arm.runs[seed], Member(composed.cfg, path)))
        made += _ensemble(f"{arm.name}, {len(members)} seeds", members)
        if arm is not found.baseline and members:
            best.append(min(members, key=lambda member: member[0]))
    return made + _ensemble(f"the best seeds of {len(best)} finalists", best)


def still_true(before: Sequence[Ensemble], found: Confirmation) -> list[Ensemble]:
    """Of an earlier confirmation with fewer seeds the ensembles whose members' weights are gone by now."""
    runs = {run for arm in (found.baseline, *found.finalists) for run in arm.runs.values()}
    return [one for one in before if runs.issuperset(one.runs) and one.of not in {new.of for new in found.ensembles}]


def _ensemble(of: str, members: Sequence[tuple[float, str, Member]]) -> list[Ensemble]:
    """None of less than two members, and none of members with other objectives."""
    if len(members) < 2 or any(objective(m.cfg) != objective(members[0][2].cfg) for _, _, m in members):
        return []
    values = [value for value, _, _ in members]
    value = evaluate([member for _, _, member in members])["val/loss"]
    return [Ensemble(of, [run for _, run, _ in members], value, sum(values) / len(values), min(values))]

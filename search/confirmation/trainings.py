"""The trainings of a confirmation: those that the tracker has, found by the hash of their config, and one that is done.

The tracker is the record: what ended there is not trained again, and one that left a state is resumed.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from denoise.config.compose import Composed, compose
from denoise.config.overrides import Overrides
from denoise.errors import UserError
from denoise.metrics import TEST_LOSS
from denoise.training import train
from search.analysis.confirmation import Arm
from search.confirmation.stored import missing
from search.confirmation.tested import Tested
from search.report.progress import TrialDisplay
from search.tracking import record, weights
from search.tracking import tracker as tracking
from search.tracking.record import Record
from search.tracking.tags import Tag
from search.tracking.tracker import Run, Tracker
from search.trial import provenance
from search.trial.config_hash import config_sha256
from search.trial.run import TESTED, Rejected, Stop, end_rejected, open_run, perform, run_name


@dataclass(frozen=True)
class Order:
    """One training: the arm that it is of, as the screen calls it, the seed, and all its overrides."""

    confirms: str
    trial: int | None
    differs: str
    seed: int
    overrides: list[str]

    @property
    def says(self) -> str:
        """What the screen says of it."""
        return f"{self.differs}, seed {self.seed}"

    @cached_property
    def composed(self) -> Composed:
        """The config, checked: what comes back from a tracker is data. Errors: UserError."""
        found = Record(self.trial, self.confirms, "complete", 0, self.overrides)
        return compose(record.check_known(record.check(found)).overrides)

    @cached_property
    def digest(self) -> str:
        """What names the training."""
        return config_sha256(self.composed)


def order(arm: Arm, seed: int, test_samples: int) -> Order:
    """Train an arm on a seed, and judge it on so many test triples."""
    overrides = Overrides(arm.overrides).with_values({"seed": seed, "trainer.test_samples": test_samples})
    return Order(arm.run_id or "baseline", arm.trial, arm.differs, seed, list(overrides))


@dataclass
class Trainings:
    """What there is of a search's confirmation."""

    tracker: Tracker
    parent: Run
    known: dict[str, list[Any]] = field(default_factory=dict)  # hash of the config -> its runs, the latest first

    @cached_property
    def tested(self) -> Tested:
        """The test losses of its runs."""
        return Tested(self.tracker)

    @cached_property
    def folder(self) -> Path:
        """Where states and weights wait on this disk."""
        return self.tracker.store / "checkpoints" / str(self.tracker.client.get_run(self.parent.run_id).info.run_name)

    def look(self, digest: str = "") -> None:
        """Read what there is, of one config or of all; of one code, since they are compared."""
        asked = {Tag.PARENT: self.parent.run_id, Tag.ROLE: "confirm", Tag.CODE: provenance.code()}
        self.known = {} if not digest else self.known | {digest: []}
        for run in self.tracker.find(**asked, **({Tag.CONFIG_SHA256: digest} if digest else {})):
            self.known.setdefault(run.data.tags.get(Tag.CONFIG_SHA256, ""), []).append(run)

    def weights(self, digest: str) -> Path:
        """Where a training's weights wait for the ensembles, and to be the best's."""
        return self.folder / f"confirm-{digest[:16]}.safetensors"

    def waits(self, run_id: str, path: Path) -> bool:
        """Whether the weights that a run has recorded wait in this file."""
        if not path.exists():
            return False
        return weights.are(path.read_bytes(), self.tracker.record(run_id).tags.get(Tag.WEIGHTS_SHA256, ""))

    def keep(self, arm: Arm) -> None:
        """Put the weights of the most typical seed that has some waiting with its run."""
        for seed in arm.typical:
            run = Run(self.tracker, arm.runs[seed])
            waiting = self.weights(self.tracker.record(run.run_id).tags[Tag.CONFIG_SHA256])
            if waiting.exists() and weights.put(waiting, run):
                return

    def kept(self, arm: Arm) -> str:
        """Of an arm's runs the most typical one that has its weights; else the most typical."""
        runs, gone = [arm.runs[seed] for seed in arm.typical], missing(self.tracker, self.parent.run_id, [arm])
        runs = [run for run in runs if run not in gone] or runs
        return next((run for run in runs if self.tracker.has(run, weights.FILE)), runs[0])

    def bring(self, run_id: str, digest: str) -> None:
        """Let weights wait here that are with their run."""
        path = self.weights(digest)
        with suppress(UserError), TemporaryDirectory() as folder:
            if not path.exists():
                content = weights.fetch(self.tracker, self.tracker.record(run_id), Path(folder)).read_bytes()
                self.folder.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".part").write_bytes(content)
                path.with_suffix(".part").replace(path)

    def clear(self) -> None:
        """Remove the weights that wait."""
        for path in self.folder.glob("confirm-*"):
            path.unlink()

    def ended(self, digest: str) -> Record | None:
        """The training of this config that ended, complete or diverged; another failure may not come again.

        One whose test losses are gone, or others than it was judged by, is to be done again.
        """
        for run in self.known.get(digest, []):
            one = tracking.record(run)
            tested = one.outcome == "complete" and TEST_LOSS in one.metrics and self.tested.find(one) is not None
            if tested or one.tags.get(Tag.FAILURE_KIND) == "diverged":
                if run.info.status == "RUNNING":  # a kill came between its outcome and its end
                    self.tracker.client.set_terminated(one.run_id, tracking.STATUS[one.outcome])
                return one
        return None

    def train(self, asked: Order, screen: TrialDisplay, stop: Stop, rejected: Rejected | None, put: bool) -> Record:
        """Train; a run that a kill left is resumed where it left a state, else deleted.

        stop: is told each evaluation; rejected: why it is not trained; put: its weights go to its run at once.
        """
        checkpoint = self.folder / f"confirm-{asked.digest[:16]}.ckpt"
        outcomes = {run.info.run_id: tracking.record(run).outcome for run in self.known.get(asked.digest, [])}
        left = [run for run, outcome in outcomes.items() if outcome == "running"]
        going_on = left[0] if left and (checkpoint.exists() or rejected is not None) else None
        torn = [run for run, outcome in outcomes.items() if outcome == "complete"]
        if torn:
            screen.note(f"{asked.says}: its {TESTED} is gone or torn, so it is trained again")
        for lost in (*left, *torn):
            if lost != going_on:
                self.tracker.client.delete_run(lost)
        if going_on is not None:
            run = self.tracker.run(going_on)
        else:
            train.forget(checkpoint)
            trial = f"{asked.trial:>03}" if asked.trial is not None else "baseline"
            name = run_name(f"confirm {trial} seed {asked.seed}")
            tags: dict[str, str] = {Tag.CONFIRMS: asked.confirms, Tag.SEED: str(asked.seed), Tag.DIFFERS: asked.differs}
            parent = self.parent.run_id
            run = open_run(self.tracker, asked.composed, asked.overrides, "confirm", name, parent, **tags)

        def keep(result: train.Result) -> None:
            path = self.weights(asked.digest)
            weights.keep(path, result.weights)
            if put:
                run.artifacts({weights.NAME: path.read_bytes()}, "weights")
                path.unlink()

        if rejected is not None:
            done = end_rejected(run, asked.composed, rejected)
        else:
            done = perform(asked.composed, run, screen, stop, checkpoint, keep=keep)
        train.forget(checkpoint)
        screen.trial_ends(done.outcome, done.step, done.value, done.samples_per_second, done.failure)
        tags = {Tag.FAILURE_KIND: done.kind}
        return Record(None, done.run_id, done.outcome, done.step, asked.overrides, done.value, "", done.metrics, tags)

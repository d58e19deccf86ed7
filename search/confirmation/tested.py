"""The losses of the test triples that runs keep, and what other test images would change."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from denoise.errors import UserError
from denoise.fault import of_the_machine
from denoise.metrics import TEST_LOSS
from search.analysis.confirmation import Arm
from search.analysis.sequential_test import images_error
from search.console.printed_commands import named
from search.tracking.record import Record
from search.tracking.tracker import Tracker
from search.trial.run import TESTED

Losses = tuple[NDArray[np.float64], NDArray[np.int64]]  # of each test triple: its loss, the number of its image


class Tested:
    """Reads the test losses of runs, each once."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.known: dict[str, Losses] = {}

    def of(self, run_id: str) -> Losses:
        """The losses of a run's test triples. Errors: UserError where they are gone, or others than its test/loss."""
        found = self.known.get(run_id) or self.find(self.tracker.record(run_id))
        if found is None:
            raise UserError(f"run {run_id}: its {TESTED} is gone or torn; the same {named('search')} trains it again")
        return found

    def find(self, one: Record) -> Losses | None:
        """The same; None where they are gone, or others than its test/loss."""
        if one.run_id not in self.known:
            try:
                with TemporaryDirectory() as folder:
                    found = load_file(self.tracker.artifact(one.run_id, TESTED, Path(folder)))
                losses, image = found["losses"].astype(np.float64), found["image"].astype(np.int64)
            except (UserError, SafetensorError, OSError, KeyError, ValueError) as error:
                if of_the_machine(error):  # a full disk says nothing of the file
                    raise
                return None
            mean, judged = float(losses.mean()), one.metrics.get(TEST_LOSS, math.nan)
            if math.isfinite(mean) and not math.isclose(mean, judged, rel_tol=1e-9):
                return None
            self.known[one.run_id] = losses, image
        return self.known[one.run_id]

    def images_error(self, one: Arm, other: Arm | None = None) -> float:
        """The standard error, over other test images, of an arm's mean loss, or of its mean difference to another."""
        arms = [one] if other is None else [one, other]
        seeds = [s for s in one.values if all(arm.values.get(s) is not None for arm in arms)]
        if not seeds:
            return 0.0
        losses = np.mean([self.of(one.runs[s])[0] for s in seeds], axis=0)
        if other is not None:
            losses = losses - np.mean([self.of(other.runs[s])[0] for s in seeds], axis=0)
        return images_error(losses, self.of(one.runs[seeds[0]])[1])

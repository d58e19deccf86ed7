"""What a confirmation found, as plain data: the arms and their seeds, who is compared with whom, the ensembles."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from denoise.errors import UserError
from search.analysis import sequential_test
from search.analysis.sequential_test import BETTER, OPEN, WORSE, Interval, SequentialTest


@dataclass(frozen=True)
class Settings:
    """How many finalists are trained on how many fresh seeds, from which seed on; the joint level of the intervals.

    test_samples: the triples of test images that all of them are judged on.
    """

    finalists: int
    seeds: int
    first_seed: int
    level: float
    test_samples: int

    @property
    def fresh(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)


def settings(node: Mapping[str, Any], seed: int) -> Settings:
    """Read `search.confirm`; `seed` is the search's own. Errors: UserError."""
    where = "search.confirm"
    finalists, seeds, first_seed = (int(node[name]) for name in ("finalists", "seeds", "first_seed"))
    found = Settings(finalists, seeds, first_seed, float(node["level"]), int(node["test_samples"]))
    if not 0 <= found.finalists <= 100:
        raise UserError(f"{where}.finalists={found.finalists}: must be from 0 (no confirmation) to 100")
    if not sequential_test.FIRST_LOOK <= found.seeds <= 100:
        raise UserError(
            f"{where}.seeds={found.seeds}: must be from 3 to 100; fewer show nothing, {where}.finalists=0 leaves it out"
        )
    if not 0.5 <= found.level <= 0.999:
        raise UserError(f"{where}.level={found.level}: must be from 0.5 to 0.999, such as 0.95")
    if found.first_seed < 0:
        raise UserError(f"{where}.first_seed={found.first_seed}: must be 0 or more")
    if found.test_samples < 16:
        raise UserError(f"{where}.test_samples={found.test_samples}: must be 16 or more, such as 1024")
    if found.finalists and seed in found.fresh:
        raise UserError(
            f"{where}.first_seed={found.first_seed}: the search's own seed {seed} is among these {found.seeds}, "
            f"and what was chosen by it looks better on it; give another, such as {where}.first_seed={seed + 1}"
        )
    return found


@dataclass
class Comparison:
    """One arm beside another: below 0 it is better.

    mine, theirs, difference: means over the `pairs` seeds on which both finished; interval: one of several
    that hold jointly; images: the standard error that the test images bring, a part of the interval; diverged: how
    often each did, of `both` seeds that both have, p: of the exact test of that; searched: the difference on the
    search's one seed and the validation images.
    """

    verdict: str = OPEN
    pairs: int = 0
    mine: float | None = None
    theirs: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    images: float = 0.0
    diverged: tuple[int, int] = (0, 0)
    both: int = 0
    p: float = 1.0
    searched: float | None = None

    @property
    def shows(self) -> str:
        """What the interval alone says."""
        if self.interval is None:
            return OPEN
        return BETTER if self.interval[1] < 0 else WORSE if self.interval[0] > 0 else OPEN


@dataclass
class Arm:
    """A config on the fresh seeds.

    run_id: its run in the search ("" for a baseline without one); searched: its objective there; cost: what it costs,
    in a search that weighs cost; runs: seed -> run; values: seed -> test loss, None where there is none, and then
    failures has the kind: diverged, out_of_memory, ...; validation: seed -> objective.
    """

    run_id: str
    trial: int | None
    differs: str
    overrides: list[str]
    searched: float | None
    cost: float | None = None
    runs: dict[int, str] = field(default_factory=dict)
    values: dict[int, float | None] = field(default_factory=dict)
    validation: dict[int, float] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    interval: Interval | None = None  # of its own mean over seeds and images, by itself

    def take(self, seed: int, ended: "Ended") -> None:
        """Note how the arm ended on a seed."""
        self.runs[seed], self.values[seed] = ended.run_id, ended.value
        if ended.validation is not None:
            self.validation[seed] = ended.validation
        if ended.failure:
            self.failures[seed] = ended.failure

    def numbers(self) -> list[float]:
        """The values by seed: inf where it diverged, nan where one is missing for another reason."""
        return [
            value if value is not None else math.inf if self.failures.get(seed) == "diverged" else math.nan
            for seed, value in self.values.items()
        ]

    @property
    def failed(self) -> list[str]:
        """The failures that are no divergence, by their kind."""
        return sorted(kind for kind in self.failures.values() if kind != "diverged")

    @property
    def finite(self) -> list[float]:
        """The values that are there."""
        return [value for value in self.values.values() if value is not None]

    @property
    def mean(self) -> float:
        """Over the seeds that finished."""
        return mean(self.finite)

    @property
    def typical(self) -> list[int]:
        """The seeds that have a value: first that with the median one (the lower of two), then the nearest to it."""
        ranked = sorted((value, seed) for seed, value in self.values.items() if value is not None)
        middle = (len(ranked) - 1) / 2 - 0.1
        return [ranked[i][1] for i in sorted(range(len(ranked)), key=lambda i: abs(i - middle))]

    @property
    def name(self) -> str:
        """How a sentence calls it."""
        return "the baseline" if not isinstance(self, Finalist) else f"trial {self.trial} ({self.differs})"


@dataclass(frozen=True)
class Ended:
    """How one training of an arm ended: test loss and objective where it finished, else the failure's kind."""

    run_id: str
    value: float | None
    validation: float | None
    failure: str


@dataclass
class Finalist(Arm):
    """An arm that is asked about.

    untuned: beside the baseline, the config as it is; tuned: beside the baseline's option at its own best of the same
    budget, in a search that tunes each option, None in any other.
    """

    untuned: Comparison = field(default_factory=Comparison)
    tuned: Comparison | None = None

    @property
    def asked(self) -> Comparison:
        """What the search asks about."""
        return self.tuned or self.untuned


@dataclass
class EnsembleScore:
    """The averaged prediction of several trainings, on the test triples.

    runs: the members; members_mean, members_best: of their own losses; members over several arms were chosen by
    these, so theirs are the best seeds.
    """

    of: str
    runs: list[str]
    value: float
    members_mean: float
    members_best: float


@dataclass
class Confirmation:
    """What the fresh seeds say of the finalists.

    option: in a search that tunes each option the baseline's; reference: that option at its own best, where that is
    another config than the baseline; cost: the metric that a search weighs; baseline_best: the baseline had the best
    objective of the search; seed_sd: the standard deviation of one config's objective over seeds, pooled over all
    arms, with seed_df degrees of freedom, None and 0 without two values of one arm; spread: of a seed's difference.
    """

    settings: Settings
    baseline: Arm
    finalists: list[Finalist]
    reference: Finalist | None = None
    option: str = ""
    cost: str | None = None
    baseline_best: bool = False
    seed_sd: float | None = None
    seed_df: int = 0
    spread: float | None = None
    ensembles: list[EnsembleScore] = field(default_factory=list)

    @property
    def arms(self) -> list[Arm]:
        """All of them: the baseline, the reference where there is one, the finalists."""
        return [self.baseline, *([] if self.reference is None else [self.reference]), *self.finalists]

    @property
    def rivals(self) -> list[Finalist]:
        """All but the baseline."""
        return [arm for arm in self.arms if isinstance(arm, Finalist)]

    @property
    def trainings(self) -> int:
        """How many trainings it took."""
        return sum(len(arm.values) for arm in self.arms)

    @property
    def most(self) -> int:
        """How many it takes where nothing ends early."""
        return len(self.arms) * self.settings.seeds if self.finalists else 0

    @property
    def rules(self) -> tuple[SequentialTest, SequentialTest]:
        """Of the comparisons with the reference (or, without one, the baseline), and of those with the baseline."""
        s = self.settings
        finalists, rivals = (SequentialTest(max(1, len(of)), s.seeds, s.level) for of in (self.finalists, self.rivals))
        return finalists, rivals

    @property
    def best(self) -> Arm | None:
        """The arm to take: of those that are shown to be better than the baseline the best, else the baseline.

        Where the baseline never finished: what did on the most seeds. None where nothing did.
        """
        shown = [one for one in self.rivals if one.untuned.verdict == BETTER and one.finite]
        if shown:
            return min(shown, key=lambda one: (one.untuned.difference or 0.0, len(one.failures), one.mean))
        if self.baseline.finite:
            return self.baseline
        ended = [one for one in self.rivals if one.finite]
        return min(ended, key=lambda one: (len(one.failures), one.mean), default=None)


def comparison(mine: Arm, theirs: Arm, rule: SequentialTest, images: float) -> Comparison:
    """Compare two arms by a rule; `images` is the standard error of their mean difference over other images."""
    values, others = mine.numbers(), theirs.numbers()
    pairs = sequential_test.paired(values, others)
    a, b, both, p = sequential_test.divergences(values, others)
    found = Comparison(rule.final(values, others, images), len(pairs), diverged=(a, b), both=both, p=p)
    if pairs:
        found.mine, found.theirs = mean(value for value, _ in pairs), mean(other for _, other in pairs)
        found.difference = mean(value - other for value, other in pairs)
        between = rule.interval(sequential_test.differences(values, others), images)
        if between is not None and math.isfinite(between[1] - between[0]):
            found.interval, found.images = between, images
    if mine.searched is not None and theirs.searched is not None:
        found.searched = mine.searched - theirs.searched
    return found

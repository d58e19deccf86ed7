"""What a confirmation found, as plain data: the arms and their seeds, the verdicts, the ensembles."""

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from denoise.refusal import Refusal
from search.confirm import statistics
from search.confirm.statistics import OPEN, Rule
from search.tracking import Tracker

FILE = "confirmation.json"


@dataclass(frozen=True)
class Settings:
    """How many finalists are trained on how many fresh seeds, from which seed on; the joint level of the intervals."""

    finalists: int
    seeds: int
    first_seed: int
    level: float

    @property
    def fresh(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def most(self) -> int:
        """The trainings of a confirmation that nothing ends early, the baseline's among them."""
        return (self.finalists + 1) * self.seeds if self.finalists else 0


def settings(node: Mapping[str, Any], seed: int) -> Settings:
    """Read `search.confirm`; `seed` is the search's own. Errors: Refusal."""
    where = "search.confirm"
    found = Settings(int(node["finalists"]), int(node["seeds"]), int(node["first_seed"]), float(node["level"]))
    if not 0 <= found.finalists <= 100:
        raise Refusal(f"{where}.finalists={found.finalists}: must be from 0 (no confirmation) to 100")
    if not statistics.FIRST_LOOK <= found.seeds <= 100:
        raise Refusal(
            f"{where}.seeds={found.seeds}: must be from 3 to 100; fewer show nothing, {where}.finalists=0 leaves it out"
        )
    if not 0.5 <= found.level <= 0.999:
        raise Refusal(f"{where}.level={found.level}: must be from 0.5 to 0.999, such as 0.95")
    if found.first_seed < 0:
        raise Refusal(f"{where}.first_seed={found.first_seed}: must be 0 or more")
    if found.finalists and seed in found.fresh:
        raise Refusal(
            f"{where}.first_seed={found.first_seed}: the search's own seed {seed} is among these {found.seeds}, "
            f"and what was chosen by it looks better on it; give another, such as {where}.first_seed={seed + 1}"
        )
    return found


@dataclass
class Arm:
    """A config on the fresh seeds.

    run_id: its run in the search ("" for a baseline without one); searched: its objective there; runs: seed -> run;
    values: seed -> objective, None where there is none, and then failures has the kind: diverged, out_of_memory, ...
    """

    run_id: str
    trial: int | None
    differs: str
    overrides: list[str]
    searched: float | None
    runs: dict[int, str] = field(default_factory=dict)
    values: dict[int, float | None] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    def take(self, seed: int, run_id: str, value: float | None, failure: str) -> float:
        """Note how the arm ended on a seed; its objective, inf where it diverged, nan without one."""
        self.runs[seed], self.values[seed] = run_id, value
        if failure:
            self.failures[seed] = failure
        return self.numbers()[-1]

    def numbers(self) -> list[float]:
        """The values by seed: inf where it diverged, nan where one is missing for another reason."""
        return [
            value if value is not None else math.inf if self.failures.get(seed) == "diverged" else math.nan
            for seed, value in self.values.items()
        ]

    @property
    def finite(self) -> list[float]:
        """The values that are there."""
        return [value for value in self.values.values() if value is not None]

    @property
    def name(self) -> str:
        """How a sentence calls it."""
        return f"trial {self.trial} ({self.differs})" if isinstance(self, Finalist) else "the baseline"


@dataclass
class Finalist(Arm):
    """An arm beside the baseline. Differences are finalist minus baseline: below 0 it is better.

    mean_difference: over the `pairs` seeds on which both came to their end, the confirmed difference; interval: of
    Student's t at level_used, one of several that hold jointly at the level of the settings; bootstrap: at the same
    level; diverged: on how many seeds it did and the baseline did not; search_difference: of the search's one seed;
    shrinkage: mean_difference - search_difference, above 0 where the search had promised too much.
    """

    pairs: int = 0
    mean_difference: float | None = None
    interval: tuple[float, float] | None = None
    bootstrap: tuple[float, float] | None = None
    level_used: float | None = None
    verdict: str = OPEN
    diverged: int = 0
    search_difference: float | None = None
    shrinkage: float | None = None


@dataclass
class Ensemble:
    """The averaged prediction of several trainings, on the validation set of the objective.

    runs: the members; members_mean, members_best: of their own objectives; members over several arms were chosen by
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

    baseline_best: the baseline had the best objective of the search; seed_sd: the standard deviation of one config
    over seeds, pooled over all arms, with seed_df degrees of freedom, None and 0 without two values of one arm.
    """

    settings: Settings
    baseline: Arm
    finalists: list[Finalist]
    baseline_best: bool = False
    seed_sd: float | None = None
    seed_df: int = 0
    ensembles: list[Ensemble] = field(default_factory=list)

    @property
    def trainings(self) -> int:
        """How many trainings it took."""
        return sum(len(arm.values) for arm in (self.baseline, *self.finalists))

    def judge(self, rule: Rule) -> None:
        """Work out every finalist's numbers and verdict, and the spread over seeds."""
        base = self.baseline.numbers()
        for one in self.finalists:
            values = one.numbers()
            differences = statistics.paired(values, base)
            one.pairs, one.diverged = len(differences), statistics.diverged(values, base)
            one.verdict = rule.verdict(values, base)
            one.mean_difference = sum(differences) / len(differences) if differences else None
            one.interval = one.bootstrap = one.level_used = None
            if not one.diverged and one.pairs in rule.levels:
                one.level_used = 1 - rule.levels[one.pairs]
                found = rule.interval(differences)
                one.interval = found if found is not None and math.isfinite(found[1] - found[0]) else None
                one.bootstrap = statistics.bootstrap_interval(differences, one.level_used)
            one.search_difference = one.shrinkage = None
            if one.searched is not None and self.baseline.searched is not None:
                one.search_difference = one.searched - self.baseline.searched
                if one.mean_difference is not None:
                    one.shrinkage = one.mean_difference - one.search_difference
        self.seed_sd, self.seed_df = statistics.pooled_sd([arm.finite for arm in (self.baseline, *self.finalists)])

    def to_json(self) -> bytes:
        """As JSON; from_json gives it back."""
        return json.dumps(asdict(self), indent=1, allow_nan=False).encode()


def from_json(content: bytes) -> Confirmation:
    """Read what to_json wrote. Errors: Refusal for anything else: what comes back from a tracker is data."""
    try:
        plain = json.loads(content)
        finalists = [_arm(Finalist, one) for one in plain["finalists"]]
        return Confirmation(
            **plain
            | {
                "settings": Settings(**plain["settings"]),
                "baseline": _arm(Arm, plain["baseline"]),
                "finalists": finalists,
                "ensembles": [Ensemble(**one) for one in plain["ensembles"]],
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refusal(f"{FILE}: not a confirmation, or of another version; make search writes it anew") from error


def _arm(kind: Any, plain: dict[str, Any]) -> Any:
    by_seed = {name: {int(k): v for k, v in plain[name].items()} for name in ("runs", "values", "failures")}
    pairs = {name: tuple(plain[name]) if plain.get(name) else None for name in ("interval", "bootstrap")}
    return kind(**plain | by_seed | (pairs if kind is Finalist else {}))


def load(tracker: Tracker, parent: str) -> Confirmation | None:
    """The confirmation of the search with this run id; None where it has none. Errors: Refusal."""
    if "confirmed" not in tracker.client.get_run(parent).data.tags:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return from_json(tracker.artifact(parent, FILE, Path(folder)).read_bytes())

"""Which option is best, all else tuned fairly: an arm for each."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from denoise.config import catalog
from denoise.config.compose import Composed
from denoise.config.limits import as_text
from denoise.config.overrides import Overrides
from denoise.errors import UserError, choose
from search.confirmation.finalists import Tuned
from search.space.domains import ends as domain_ends
from search.space.domains import flat
from search.space.search_space import Asked, Space, kind_of
from search.storages.attributes import OfTrial
from search.study.modes.joint import Joint, Start
from search.study.settings import SearchSettings
from search.tracking.record import Record


class Ablation(Joint):
    """Which option, all else tuned fairly: an arm per option (per combination of options), trained in rounds.

    In round 0 every arm has the nuisance parameters' start; in the later ones the sampler draws them from the arm's
    own trials alone, with the random numbers of the round, so that every arm's draws are paired with the others'. A
    trial is compared with its own arm's trials only. From round `min_per_arm` on, the better `keep` of the arms, and
    always the baseline's, go on.
    """

    name = "ablation"

    @staticmethod
    def asked(composed: Composed) -> dict[str, Asked]:
        settings = composed.cfg.search
        free = [path for path, _ in flat(settings.domains)]
        options: dict[str, bool] = {}
        parameters: dict[str, set[str] | None] = {}
        if not settings.scientific:
            raise UserError(
                "search.scientific=[]: nothing is asked; name kinds, such as search.scientific=[activation]"
            )
        for what, names in (("scientific", settings.scientific), ("nuisance", settings.nuisance)):
            for name in map(str, names):
                place, parameter = _split(name, composed)
                if name in free:
                    continue
                if place is None or (what == "scientific" and parameter):
                    legal = [*catalog.KINDS, *(p for p in composed.choices if "@" in p), *free]
                    legal += [f"{kind}.PARAMETER" for kind in catalog.KINDS] if what == "nuisance" else []
                    raise UserError(f"search.{what}: {name} is no choice; {choose(name, legal)}")
                options[place] = options.get(place, False) or not parameter
                wanted = parameters.setdefault(place, set())
                if what == "nuisance" and parameter in ("", "*"):
                    parameters[place] = None
                elif parameter and wanted is not None:
                    _check_parameter(name, kind_of(place), parameter)
                    wanted.add(parameter)
        return {
            place: Asked(options[place], None if wanted is None else frozenset(wanted))
            for place, wanted in parameters.items()
        }

    def __init__(self, settings: SearchSettings, space: Space, points: Sequence[Mapping[str, Any]], *more: Any) -> None:
        super().__init__(settings, space, points, *more)
        self.scientific = self.asked_about = list(settings.scientific)
        self.arms = [self._start(arm) for arm in product(*map(self._legal, self.scientific))]
        base = {name: self.points[0][name] for name in self.scientific}
        self.arms.sort(key=lambda start: any(start[name] != value for name, value in base.items()))
        if len(self.points) > 1:
            raise UserError(
                "search.enqueue: an ablation begins each arm at the baseline; leave it out, or search=joint"
            )

    def _legal(self, name: str) -> Sequence[Any]:
        if name in self.space.options:
            return self.space.options[name]
        domain = self.space.free[name]
        if not isinstance(domain, CategoricalDistribution):
            ends = ",".join(as_text(value) for _, value in domain_ends(domain))
            raise UserError(
                f"search.scientific: {name} has no list of values to compare; write "
                f"+search.domains.{name}={{type:categorical,choices:[{ends}]}}"
            )
        return domain.choices

    def _start(self, values: Sequence[Any]) -> dict[str, Any]:
        """Where an arm begins: the baseline, with the arm's options at the defaults of their files."""
        start = dict(self.points[0])
        for name, value in zip(self.scientific, values, strict=True):
            if start[name] != value and name in self.space.options:
                start = {key: kept for key, kept in start.items() if not key.startswith(f"{name}.")}
                start |= self.space.defaults(name, str(value))
            start[name] = value
        return start

    def key(self, start: Mapping[str, Any]) -> str:
        """Name an arm by its options."""
        return ", ".join(f"{name}={as_text(start[name])}" for name in self.scientific)

    def size(self, number: int) -> int:
        """How many arms a round has."""
        size = len(self.arms)
        for _ in range(self.settings.min_per_arm, number + 1):
            size = min(size, max(2, math.ceil(size * self.settings.keep)))
        return size

    @property
    def total(self) -> int:
        return sum(self.size(number) for number in range(self.settings.per_arm))

    def choices(self) -> list[str]:
        return self.scientific

    def question(self) -> dict[str, Any]:
        return {"mode": self.name, "scientific": self.scientific}

    def missing(self, trials: Sequence[FrozenTrial]) -> int:
        """How many of the arms' trials are still to be begun; one that was migrated is its arm's."""
        arms = {self.key(start) for start in self.arms}
        there = Counter(t.user_attrs[OfTrial.ROUND] for t in trials if t.user_attrs[OfTrial.ARM] in arms)
        return sum(max(0, self.size(number) - there[number]) for number in range(self.settings.per_arm))

    def best(self, records: Sequence[Record]) -> dict[tuple[str, ...], Record]:
        """The first of these trials of each arm, by the arm's options."""
        best: dict[tuple[str, ...], Record] = {}
        for record in records:
            values = Overrides(record.overrides).values
            best.setdefault(tuple(values.get(name, "") for name in self.scientific), record)
        return best

    def candidates(self, records: Sequence[Record]) -> list[Record]:
        """The best trial of each arm, and the baseline."""
        first = {id(record) for record in self.best(records).values()}
        return [record for record in records if id(record) in first or record.number == 0]

    def tuned(self, records: Sequence[Record]) -> Tuned:
        """The baseline's options, and the best of their arm."""
        options = tuple(as_text(self.points[0][name]) for name in self.scientific)
        complete = [record for record in records if record.outcome == "complete"]
        named = [
            option if name in self.space.options else f"{name}={option}"
            for name, option in zip(self.scientific, options, strict=True)
        ]
        return Tuned(", ".join(named), self.best(complete).get(options))

    def leaders(self, trials: Sequence[FrozenTrial], places: int) -> list[FrozenTrial]:
        best: dict[str, FrozenTrial] = {}
        for trial in sorted(trials, key=lambda trial: (trial.values[0], trial.number)):
            best.setdefault(str(trial.user_attrs.get(OfTrial.ARM)), trial)
        return super().leaders(list(best.values()), places)

    def arms_of(self, number: int, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
        """The arms of a round: all, or the best by the rounds before; the baseline's always."""
        if self.size(number) == len(self.arms):
            return self.arms
        best = {self.key(start): math.inf for start in self.arms}
        for trial in trials:
            arm = trial.user_attrs.get(OfTrial.ARM)
            if (
                trial.user_attrs.get(OfTrial.ROUND, number) < number
                and trial.state == TrialState.COMPLETE
                and arm in best
            ):
                best[arm] = min(best[arm], trial.values[0])
        others = sorted(self.arms[1:], key=lambda start: best[self.key(start)])
        return [self.arms[0], *others[: self.size(number) - 1]]

    def next_start(self, trials: Sequence[FrozenTrial]) -> Start | None:
        """The first trial of the first round that is not there yet: an arm's options, its start in round 0.

        None where a round that has not all arms cannot be chosen yet: trials before it still run.
        """
        running = min((t.user_attrs[OfTrial.ROUND] for t in trials if t.state == TrialState.RUNNING), default=math.inf)
        there = {(trial.user_attrs.get(OfTrial.ARM), trial.user_attrs.get(OfTrial.ROUND)) for trial in trials}
        for number in range(self.settings.per_arm):
            if running < number and self.size(number) < len(self.arms):
                return None
            for start in self.arms_of(number, trials):
                if (self.key(start), number) not in there:
                    point = start if number == 0 else {name: start[name] for name in self.scientific}
                    return Start(point, {OfTrial.ARM: self.key(start), OfTrial.ROUND: number})
        return Start()

    def key_of(self, number: int, start: Start) -> int:
        return int(start.attrs[OfTrial.ROUND])

    def history(self, trials: Sequence[FrozenTrial], start: Start) -> list[FrozenTrial]:
        return self._of(trials, start.attrs[OfTrial.ARM])

    def rivals(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
        return self._of(trials, trial.user_attrs[OfTrial.ARM])

    def _of(self, trials: Sequence[FrozenTrial], arm: str) -> list[FrozenTrial]:
        return [trial for trial in trials if trial.user_attrs.get(OfTrial.ARM) == arm]


def _split(name: str, composed: Composed) -> tuple[str | None, str]:
    """Read activation, activation.beta, activation.* or a part's place: (place, parameter); place None: none such."""
    before, _, after = name.rpartition(".")
    for place, parameter in ((name, ""), (before, after)):
        if place in composed.choices and kind_of(place) in catalog.KINDS:
            return place, parameter
    return None, ""


def _check_parameter(name: str, kind: str, parameter: str) -> None:
    declared = {p for option in catalog.options(kind) for p in catalog.entry(kind, option).space}
    if parameter not in declared:
        legal = sorted(f"{kind}.{p}" for p in declared)
        raise UserError(f"search.nuisance: {name} is searched by no option of its kind; {choose(name, legal)}")

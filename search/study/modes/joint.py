"""Which whole config is best: one study over everything that is searched."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from optuna.trial import FrozenTrial

from denoise.config.compose import Composed
from denoise.metrics import VAL_LOSS
from search.confirmation.finalists import Tuned
from search.space.search_space import Asked, Space
from search.storages.attributes import OfTrial
from search.study.settings import SearchSettings
from search.tracking.record import Record


@dataclass(frozen=True)
class Start:
    """How a trial is begun: the parameters that are given, which are not drawn, and attributes of the trial."""

    params: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Joint:
    """Which whole config is best: one study over everything that is searched, known starts first."""

    name = "joint"
    objectives: tuple[str, ...] = (VAL_LOSS,)
    cost: str | None = None  # the metric that is weighed against quality
    asked_about: list[str] | None = None  # what options are compared of, all else tuned fairly; None: of anything

    def __init__(
        self,
        settings: SearchSettings,
        space: Space,
        points: Sequence[Mapping[str, Any]],
        further: Sequence[Sequence[str]] = (),
    ) -> None:
        self.settings, self.space, self.points = settings, space, list(points)
        self.further = [list(texts) for texts in further] or [[] for _ in points]  # of each start, what is in no domain
        self.baseline = space.at(points[0])
        self.lag = settings.lag or 1  # a trial is drawn with the results of those begun so many before it

    def divided(self, space: Space, lag: int) -> Self:
        """The same question, asked in this space, by trials that know those begun `lag` before them."""
        mode = copy.copy(self)
        mode.space, mode.lag, mode.baseline = space, lag, space.at(self.points[0])
        return mode

    @staticmethod
    def asked(composed: Composed) -> dict[str, Asked] | None:
        """What is searched, place by place; None: what search.kinds says. Errors: UserError."""
        return None

    @property
    def total(self) -> int:
        """How many trials of its own the search is to have."""
        return self.settings.n_trials

    def question(self) -> dict[str, Any]:
        """What is asked, apart from the space: trials are migrated between searches that ask the same."""
        return {"mode": self.name}

    def missing(self, trials: Sequence[FrozenTrial]) -> int:
        """How many trials are still to be begun; those that were migrated are beside the search's own."""
        migrated = next((k for k, trial in enumerate(trials) if OfTrial.MIGRATED not in trial.user_attrs), len(trials))
        return self.total - (len(trials) - migrated)

    def choices(self) -> list[str]:
        """What the verdicts are about."""
        return [place for place, names in self.space.options.items() if len(names) > 1]

    def candidates(self, records: Sequence[Record]) -> list[Record]:
        """Of the trials, best first, those that may be confirmed."""
        return list(records)

    def tuned(self, records: Sequence[Record]) -> Tuned | None:
        """The baseline's option, where each option is tuned for itself: the best of its own budget."""
        return None

    def files(self, records: Sequence[Record]) -> dict[str, bytes]:
        """What a search of this mode leaves behind beside its leaderboard and its verdicts."""
        return {}

    def leaders(self, trials: Sequence[FrozenTrial], places: int) -> list[FrozenTrial]:
        """Of the complete trials those that may yet be confirmed or win: their weights are kept.

        The best with values of their own, so many as there are places, beside the baseline.
        """
        first = {trial.values[0]: trial for trial in sorted(trials, key=lambda trial: -trial.number)}
        ranked = sorted(first.values(), key=lambda trial: trial.values[0])
        return [trial for trial in ranked if trial.number != 0][:places]

    def next_start(self, trials: Sequence[FrozenTrial]) -> Start | None:
        """How the next trial is begun: as the first known start that is not there yet, else all of it drawn.

        None where that cannot be told yet, since trials that still run are to be waited for.
        """
        for point, texts in zip(self.points, self.further, strict=True):
            if not any(_covers(trial.params, point) and further(trial) == texts for trial in trials):
                return Start(point, {OfTrial.FURTHER: texts} if texts else {})
        return Start()

    def starts(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """The numbers of the trials that no one drew: the baseline and the known starts."""
        points = list(zip(self.points, self.further, strict=True))
        return [
            trial.number
            for trial in trials
            if any(_covers(trial.params, point) and further(trial) == texts for point, texts in points)
        ]

    def key_of(self, number: int, start: Start) -> int:
        """What keys a trial's draws."""
        return number

    def history(self, trials: Sequence[FrozenTrial], start: Start) -> list[FrozenTrial]:
        """The trials that the sampler is to see for a trial."""
        return list(trials)

    def rivals(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
        """The trials that the pruner is to see for a trial: those that it is compared with."""
        return list(trials)

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """What Optuna is told of a complete trial."""
        return [metrics[name] for name in self.objectives]


def further(trial: FrozenTrial) -> list[str]:
    """The overrides of a known start that no domain holds: they are trained, and the sampler does not see them."""
    return list(trial.user_attrs.get(OfTrial.FURTHER, []))


def _covers(params: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    return all(name in params and params[name] == value for name, value in point.items())

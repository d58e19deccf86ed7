"""Quality against a cost: what none is better than at its cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from denoise.errors import UserError, choose
from denoise.metrics import COST, FLOPS_PER_STEP, PARAMETERS, PEAK_MEMORY_BYTES, STEP_SECONDS, VAL_LOSS
from search.analysis.pareto_front import find, spread
from search.report import pareto_front
from search.space.search_space import Space
from search.study.modes.joint import Joint
from search.study.settings import SearchSettings
from search.tracking.record import Record

COSTS = tuple(name.removeprefix(COST) for name in (STEP_SECONDS, PEAK_MEMORY_BYTES, PARAMETERS, FLOPS_PER_STEP))


class Pareto(Joint):
    """Quality against a cost: no trial that is as cheap and better, none that is as good and cheaper.

    Optuna prunes nothing in a study of two objectives. Here a trial is stopped where the pruner would stop it among
    those that cost no more: it is then behind trials that are both better and as cheap.
    """

    name = "pareto"

    def __init__(self, settings: SearchSettings, space: Space, points: Sequence[Mapping[str, Any]], *more: Any) -> None:
        super().__init__(settings, space, points, *more)
        if settings.cost not in COSTS:
            raise UserError(f"search.cost={settings.cost}: unknown; {choose(str(settings.cost), COSTS)}")
        self.cost: str = f"{COST}{settings.cost}"
        self.objectives = (VAL_LOSS, self.cost)

    def question(self) -> dict[str, Any]:
        return {"mode": self.name, "cost": self.cost}

    def candidates(self, records: Sequence[Record]) -> list[Record]:
        found = find(records, self.cost, self.baseline)
        chosen = spread(found)
        if found.baseline is not None and found.baseline not in chosen:
            chosen.append(found.baseline)
        return chosen

    def files(self, records: Sequence[Record]) -> dict[str, bytes]:
        return pareto_front.files(find(records, self.cost, self.baseline), self.baseline)

    def leaders(self, trials: Sequence[FrozenTrial], places: int) -> list[FrozenTrial]:
        best: list[FrozenTrial] = []
        for trial in sorted(trials, key=lambda trial: (trial.values[1], trial.values[0], trial.number)):
            if not best or trial.values[0] < best[-1].values[0]:
                best.append(trial)
        return best

    def rivals(self, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
        mine = trial.user_attrs.get(self.cost, math.inf)
        return [other for other in trials if other.user_attrs.get(self.cost, math.inf) <= mine]

"""A copy of a study in memory for Optuna's pictures: its parameters and options bear the names of a leaderboard.

A trial that was stopped early has no last value, so the trials are compared at one step that most of them reached.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from denoise.config import catalog
from denoise.metrics import VAL_LOSS
from denoise.pictures.figure import label
from search.console.redact import hide, printable


@dataclass(frozen=True)
class AtStep:
    """val/loss of the trials at `step`, by number; what is worse than `edge` is drawn there."""

    step: int
    values: dict[int, float]
    edge: float

    @property
    def name(self) -> str:
        """What stands at its axis."""
        return f"{VAL_LOSS} at step {self.step}"


def look(trials: Sequence[FrozenTrial]) -> AtStep:
    """The trials at the last step that at least half of those with a finite value reached.

    The edge is Tukey's outer fence: the upper quartile and three times the distance of the quartiles.
    """
    curves = {t.number: {s: v for s, v in t.intermediate_values.items() if math.isfinite(v)} for t in trials}
    measured, counts = sum(map(bool, curves.values())), Counter(step for curve in curves.values() for step in curve)
    step = max((step for step, number in counts.items() if 2 * number >= measured), default=0)
    values = {number: curve[step] for number, curve in curves.items() if step in curve}
    low, high = np.quantile(list(values.values()) or [0.0], [0.25, 0.75])
    return AtStep(step, values, float(high + 3 * (high - low)))


def parameter(name: str) -> str:
    """A parameter as a leaderboard names it: optimizer.adamw.lr is adamw lr, of a part: swish beta in residual."""
    kind, at, place = name.partition("@")
    part = place.split(".")[1] if at else ""
    kind, _, rest = (kind, "", place.removeprefix(f"parts.{part}.{kind}")) if at else name.partition(".")
    if kind not in catalog.KINDS:
        return text(name)
    return text((rest.strip(".").replace(".", " ") or kind) + (f" in {part}" if at else ""))


def text(said: str) -> str:
    """A name as plotly shows it letter by letter: no tag in it is obeyed."""
    return escape(label(printable(hide(said)), 60), quote=False)


def copied(trials: Sequence[FrozenTrial], values: Mapping[int, Sequence[float]], objectives: int = 1) -> Study:
    """These trials by their numbers, complete where they have values here, else stopped; the options are sorted."""
    best: dict[str, dict[Any, float]] = defaultdict(dict)
    for trial in trials:
        value = values.get(trial.number, [math.inf])[-1]
        for name, domain in trial.distributions.items():
            if isinstance(domain, CategoricalDistribution):
                option = _shown(trial.params[name])
                best[name][option] = min(best[name].get(option, math.inf), value)
    listed: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(_ordered(options)) for name, options in best.items()
    }
    study = optuna.create_study(directions=[StudyDirection.MINIMIZE] * objectives)
    for trial in trials:
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if trial.number in values else TrialState.PRUNED,
                values=values.get(trial.number),
                params={parameter(name): _shown(value) for name, value in trial.params.items()},
                distributions={parameter(name): listed.get(name, of) for name, of in trial.distributions.items()},
                intermediate_values=trial.intermediate_values,
            )
        )
    return study


def _shown(value: Any) -> Any:
    return text(value) if isinstance(value, str) else value


def _ordered(options: Mapping[Any, float]) -> list[Any]:
    """Numbers by their size, anything else by the best value that it has."""
    return sorted(options, key=lambda each: (False, each) if isinstance(each, int | float) else (True, options[each]))

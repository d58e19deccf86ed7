"""When a search ends: at its number of trials, or where a budget is used up."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from denoise.metrics import FLOPS_PER_STEP
from search.storages.attributes import OfTrial
from search.study.settings import Caps, Stop


def reached(stop: Stop, trials: Sequence[FrozenTrial]) -> str:
    """Say which budget the finished trials of a search have used up; empty while none is.

    What a trial used is in its attributes, so a search that is gone on with counts what it used before.
    """
    for name, what in USED.items():
        used = sum(float(trial.user_attrs.get(name, 0.0)) for trial in trials)
        limit = getattr(stop, name)
        if limit is not None and used >= limit:
            return f"search.stop.{name}={limit:g}: the trials have used {used:.4g} {what}"
    if stop.stale is not None and (since := stale(trials)) >= stop.stale:
        return f"search.stop.stale={stop.stale}: {since} complete trials in a row without a better one"
    return ""


USED = {
    OfTrial.STEPS: "optimizer steps",
    OfTrial.FLOPS: "floating-point operations",
    OfTrial.SECONDS: "seconds",
}


def use(step: int, metrics: Mapping[str, float], seconds: float) -> dict[str, float]:
    """What a trial used of each budget."""
    return {
        OfTrial.STEPS: step,
        OfTrial.FLOPS: step * metrics.get(FLOPS_PER_STEP, 0.0),
        OfTrial.SECONDS: round(seconds, 3),
    }


def stale(trials: Sequence[FrozenTrial]) -> int:
    """How many complete trials came after the best one."""
    values = [t.values[0] for t in sorted(trials, key=lambda t: t.number) if t.state == TrialState.COMPLETE]
    return len(values) - 1 - values.index(min(values)) if values else 0


def constraints(caps: Caps, metrics: Mapping[str, Any]) -> dict[str, float]:
    """The caps as Optuna's constraints: a trial is feasible where none is above zero."""
    return {f"caps.{name}": excess for name, excess in caps.excess(metrics).items()}

"""When a search ends: its number of trials, or a budget that is used up; and what a trial may cost at most."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from denoise.metrics import COST, FLOPS_PER_STEP
from search.storages.attributes import OfTrial


def reached(stop: DictConfig, trials: Sequence[FrozenTrial]) -> str:
    """Say which budget the finished trials of a search have used up; empty while none is.

    What a trial used is in its attributes, so a search that is gone on with counts what it used before.
    """
    for name, what in USED.items():
        if stop[str(name)] is not None:
            used = sum(float(trial.user_attrs.get(name, 0.0)) for trial in trials)
            if used >= stop[str(name)]:
                return f"search.stop.{name}={stop[str(name)]:g}: the trials have used {used:.4g} {what}"
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


def seconds(settings: DictConfig) -> float | None:
    """How long a trial may take: its cap, and never more than the whole search; None: as long as it likes."""
    limits = [float(limit) for limit in (settings.caps.seconds, settings.stop.seconds) if limit is not None]
    return min(limits, default=None)


def over(caps: DictConfig, metrics: Mapping[str, float]) -> dict[str, float]:
    """How far each capped cost that is known lies above its cap, as a fraction of the cap; below zero it is kept.

    Without the time of a trial, which is no cost of its config.
    """
    capped = {str(name): float(cap) for name, cap in caps.items() if cap is not None and name != "seconds"}
    known = {name: metrics.get(f"{COST}{name}") for name in capped}
    return {name: value / capped[name] - 1.0 for name, value in known.items() if value is not None}


def said(caps: DictConfig, metrics: Mapping[str, float]) -> str:
    """Name the first cap that is exceeded; empty where none is."""
    for name, excess in over(caps, metrics).items():
        if excess > 0:
            return f"over search.caps.{name}={caps[name]:g}: {metrics[f'{COST}{name}']:.4g}"
    return ""


def constraints(caps: DictConfig, metrics: Mapping[str, Any]) -> dict[str, float]:
    """The caps as Optuna's constraints: a trial is feasible where none is above zero."""
    return {f"caps.{name}": excess for name, excess in over(caps, metrics).items()}

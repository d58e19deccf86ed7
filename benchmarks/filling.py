"""Studies filled at once with plausible finished trials."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.space.search_space import Space

TABLES = ("", "Param", "Value", "UserAttribute", "SystemAttribute", "IntermediateValue")
MOMENT = datetime(2026, 1, 1)


class Random:
    """Draws like a trial, at random and nowhere written."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        u = float(self.generator.random())
        value = float(low * (high / low) ** u) if log else low + (high - low) * u
        return self._took(name, FloatDistribution(low, high, log=log), min(max(value, low), high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        value = int(self.generator.integers(low, high + 1))
        return self._took(name, IntDistribution(low, high, log=log), value)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        domain = CategoricalDistribution(choices)
        return self._took(name, domain, domain.choices[int(self.generator.integers(len(choices)))])

    def _took(self, name: str, domain: BaseDistribution, value: Any) -> Any:
        self.params[name], self.distributions[name] = value, domain
        return value


def finished(space: Space, number: int) -> FrozenTrial:
    """A plausible trial: a quarter complete, most stopped at a rung, some failed; a curve that falls."""
    generator = np.random.default_rng(number)
    draw: Any = Random(generator)
    overrides = space.suggest(draw)
    end, slope = 0.2 + 0.1 * generator.gamma(2.0), float(generator.random())
    state = TrialState[str(generator.choice(["COMPLETE", "PRUNED", "FAIL"], p=[0.25, 0.7, 0.05]))]
    last = 300 if state == TrialState.COMPLETE else int(generator.choice([25, 50, 100, 200]))
    curve = {step: float(end + slope / step**0.5) for step in range(25, last + 1, 25)}
    rungs = {f"completed_rung_{k}": curve[25 * 2**k] for k in range(4) if 25 * 2**k in curve}
    return create_trial(
        state=state,
        value=None if state == TrialState.FAIL else curve[last],
        params=draw.params,
        distributions=draw.distributions,
        intermediate_values={} if state == TrialState.FAIL else curve,
        system_attrs=rungs,
        user_attrs={"overrides": overrides, "run_id": f"{number:032x}", "outcome": state.name.lower()},
    )


def fill(study: optuna.Study, space: Space, number: int) -> None:
    """Add `number` plausible finished trials."""
    add(study, [finished(space, k) for k in range(number)])


def add(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    """Study.add_trials in one transaction, as rows."""
    backend: Any = study._storage._backend  # type: ignore[attr-defined]
    tables = {name: getattr(models, f"Trial{name}Model").__table__ for name in TABLES}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    with backend.engine.begin() as connection:
        first = connection.execute(sqlalchemy.select(sqlalchemy.func.max(tables[""].c.trial_id))).scalar() or 0
        for k, trial in enumerate(trials):
            at = {"trial_id": first + 1 + k}
            times = {"datetime_start": MOMENT, "datetime_complete": MOMENT}
            rows[""].append({**at, "number": k, "study_id": study._study_id, "state": trial.state, **times})
            for name, value in trial.params.items():
                domain = trial.distributions[name]
                text = optuna.distributions.distribution_to_json(domain)
                number = domain.to_internal_repr(value)
                rows["Param"].append({**at, "param_name": name, "param_value": number, "distribution_json": text})
            for table, attrs in (("UserAttribute", trial.user_attrs), ("SystemAttribute", trial.system_attrs)):
                rows[table] += [{**at, "key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]
            finite = {"value_type": "FINITE"}
            rows["Value"] += [{**at, "objective": 0, "value": value, **finite} for value in trial.values or []]
            rows["IntermediateValue"] += [
                {**at, "step": step, "intermediate_value": value, "intermediate_value_type": "FINITE"}
                for step, value in trial.intermediate_values.items()
            ]
        for name, content in rows.items():
            if content:
                connection.execute(tables[name].insert(), content)

"""Studies filled at once with plausible finished trials."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.space.search_space import Choose, Space

TABLES = ("s", "_params", "_values", "_user_attributes", "_system_attributes", "_intermediate_values")
MOMENT = datetime(2026, 1, 1)


class Random:
    """Choices at random, nowhere written."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def __call__(self, name: str, domain: BaseDistribution) -> Any:
        numbers: Any = domain
        if isinstance(domain, CategoricalDistribution):
            value: Any = domain.choices[int(self.generator.integers(len(domain.choices)))]
        elif isinstance(domain, IntDistribution):
            value = domain.low + domain.step * int(
                self.generator.integers((domain.high - domain.low) // domain.step + 1)
            )
        else:
            low, high, u = numbers.low, numbers.high, float(self.generator.random())
            value = min(max(float(low * (high / low) ** u) if numbers.log else low + (high - low) * u, low), high)
        self.params[name], self.distributions[name] = value, domain
        return value


def asked(trial: Trial) -> Choose:
    """Choices by one of Optuna's own trials."""

    def choose(name: str, domain: Any) -> Any:
        if isinstance(domain, CategoricalDistribution):
            return trial.suggest_categorical(name, domain.choices)
        if isinstance(domain, IntDistribution):
            return trial.suggest_int(name, domain.low, domain.high, step=domain.step, log=domain.log)
        return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)

    return choose


def finished(space: Space, number: int) -> FrozenTrial:
    """A plausible trial: a quarter complete, most stopped at a rung, some failed; a curve that falls."""
    generator = np.random.default_rng(number)
    draw = Random(generator)
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


def fill(storage: RDBStorage, name: str, space: Space, number: int) -> None:
    """Add `number` plausible finished trials to the study `name`."""
    add(storage, name, [finished(space, k) for k in range(number)])


def add(storage: RDBStorage, name: str, trials: Sequence[FrozenTrial]) -> None:
    """Study.add_trials in one transaction, as rows of Optuna's tables."""
    book = sqlalchemy.MetaData()
    book.reflect(storage.engine)
    tables = {end: book.tables[f"trial{end}"] for end in TABLES}
    study = storage.get_study_id_from_name(name)
    rows: dict[str, list[dict[str, Any]]] = {end: [] for end in TABLES}
    finite = {"value_type": "FINITE"}
    with storage.engine.begin() as connection:
        first = connection.execute(sqlalchemy.select(sqlalchemy.func.max(tables["s"].c.trial_id))).scalar() or 0
        for k, trial in enumerate(trials):
            at = {"trial_id": first + 1 + k}
            times = {"datetime_start": MOMENT, "datetime_complete": MOMENT}
            rows["s"].append({**at, "number": k, "study_id": study, "state": trial.state.name, **times})
            for parameter, value in trial.params.items():
                domain = trial.distributions[parameter]
                text = optuna.distributions.distribution_to_json(domain)
                number = domain.to_internal_repr(value)
                row = {"param_name": parameter, "param_value": number, "distribution_json": text}
                rows["_params"].append({**at, **row})
            for table, attrs in (("_user_attributes", trial.user_attrs), ("_system_attributes", trial.system_attrs)):
                rows[table] += [{**at, "key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]
            rows["_values"] += [{**at, "objective": 0, "value": value, **finite} for value in trial.values or []]
            rows["_intermediate_values"] += [
                {**at, "step": step, "intermediate_value": value, "intermediate_value_type": "FINITE"}
                for step, value in trial.intermediate_values.items()
            ]
        for end, content in rows.items():
            if content:
                connection.execute(tables[end].insert(), content)

"""Optuna's storage on a database, read in bulk and written a trial at a time: the same tables, fewer questions."""

import copy
import json
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Select, insert, or_, select

from search.runtime.retry import tried_again

MANY = 500  # more trials than this by name are read as a range: databases bound the names of one question


def patient(cls: type[RDBStorage]) -> type[RDBStorage]:
    """A storage whose calls are made again while the database does not answer."""
    public = [name for name in dir(BaseStorage) if not name.startswith("_") and callable(getattr(BaseStorage, name))]
    own = ("_get_trials", "_get_stale_trial_ids", "record_heartbeat", "domain_text", "set_params", "set_user_attrs")
    for name in (*public, *own):
        setattr(cls, name, tried_again(getattr(cls, name), "the storage"))
    return cls


@patient
class Storage(RDBStorage):
    """RDBStorage that reads trials as rows, a statement a table, and can write a trial's parameters together.

    Optuna's own makes an object of each row and reads each domain anew: 10,000 trials take a minute of that.
    """

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        trial = models.TrialModel
        wanted = trial.trial_id > trial_id_greater_than
        asked = {number for number in included_trial_ids if number <= trial_id_greater_than}
        if len(asked) > MANY:
            wanted = trial.trial_id >= min(asked)
        elif asked:
            wanted = or_(wanted, trial.trial_id.in_(sorted(asked)))
        found = self._read(trial.study_id == study_id, wanted)
        if not found:
            self.get_study_name_from_id(study_id)  # KeyError where there is no such study
        found = [each for each in found if each._trial_id > trial_id_greater_than or each._trial_id in asked]
        return found if states is None else [each for each in found if each.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        found = self._read(models.TrialModel.trial_id == trial_id)
        return found[0] if found else super().get_trial(trial_id)  # which raises

    def _read(self, *wanted: Any) -> list[FrozenTrial]:
        """The trials first and then what they have: what a trial that ends meanwhile lacks is not taken for its end."""
        trial = models.TrialModel
        columns: Any = (
            trial.trial_id,
            trial.number,
            trial.state,
            trial._datetime_start_utc,
            trial._datetime_complete_utc,
        )
        chosen = select(trial.trial_id).where(*wanted)
        with self.engine.connect() as connection:
            rows: Any = connection.execute(select(*columns).where(*wanted).order_by(trial.trial_id)).all()
            parts = {name: _by_trial(connection.execute(of(chosen))) for name, of in PARTS.items()} if rows else {}
        return [_trial(row, {name: part.get(row[0], ()) for name, part in parts.items()}) for row in rows]

    def set_params(self, trial_id: int, params: Mapping[str, tuple[float, BaseDistribution]]) -> None:
        """Write parameters, internal value and domain by name, in one transaction."""
        rows = [
            {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": _text(domain)}
            for name, (value, domain) in params.items()
        ]
        with _create_scoped_session(self.scoped_session, True) as session:
            trial: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
            self.check_trial_is_updatable(trial_id, trial.state)
            session.execute(insert(models.TrialParamModel), rows)

    def domain_text(self, study_id: int, name: str) -> str | None:
        """A parameter's domain, as the first trial that has it wrote it; None where none has."""
        with _create_scoped_session(self.scoped_session) as session:
            found: str | None = (
                session.query(models.TrialParamModel.distribution_json)
                .join(models.TrialModel)
                .filter(models.TrialModel.study_id == study_id, models.TrialParamModel.param_name == name)
                .limit(1)
                .scalar()
            )
        return found

    def set_user_attrs(self, trial_id: int, attrs: Mapping[str, Any]) -> None:
        """Write user attributes in one transaction."""
        with _create_scoped_session(self.scoped_session, True) as session:
            for name, value in attrs.items():
                self._set_trial_attr_without_commit(session, models.TrialUserAttributeModel, trial_id, name, value)


def _columns(model: Any, *names: str) -> Any:
    """Of one table what the chosen trials have, in the order in which it was written."""
    (first,) = model.__table__.primary_key
    columns = [getattr(model, name) for name in names]

    def of(chosen: Select[Any]) -> Select[Any]:
        return select(model.trial_id, *columns).where(model.trial_id.in_(chosen)).order_by(first)

    return of


PARTS = {
    "params": _columns(models.TrialParamModel, "param_name", "param_value", "distribution_json"),
    "values": _columns(models.TrialValueModel, "objective", "value", "value_type"),
    "user": _columns(models.TrialUserAttributeModel, "key", "value_json"),
    "system": _columns(models.TrialSystemAttributeModel, "key", "value_json"),
    "curve": _columns(models.TrialIntermediateValueModel, "step", "intermediate_value", "intermediate_value_type"),
}


def _by_trial(rows: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    return found


@lru_cache(maxsize=4096)
def _domain(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _trial(row: Any, parts: dict[str, Any]) -> FrozenTrial:
    trial_id, number, state, start, complete = row
    domains = {name: _domain(text) for _, name, _, text in parts["params"]}
    to_value = models.TrialValueModel.stored_repr_to_value
    to_point = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    values = {objective: to_value(value, kind) for _, objective, value, kind in parts["values"]}
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        values=[values[k] for k in sorted(values)] or None,
        datetime_start=_local(start),
        datetime_complete=_local(complete),
        params={name: domains[name].to_external_repr(value) for _, name, value, _ in parts["params"]},
        distributions=domains,
        user_attrs={name: json.loads(text) for _, name, text in parts["user"]},
        system_attrs={name: json.loads(text) for _, name, text in parts["system"]},
        intermediate_values={step: to_point(value, kind) for _, step, value, kind in parts["curve"]},
        trial_id=trial_id,
    )


def _local(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


@lru_cache(maxsize=4096)
def _text(domain: BaseDistribution) -> str:
    return distribution_to_json(domain)


class Cached(_CachedStorage):
    """Optuna's cache of finished trials, which goes through all of them at each look; here they stay listed."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            known = self._studies[study_id].trials
            over: list[FrozenTrial] = vars(self._studies[study_id]).setdefault(
                "over", []
            )  # all before the first that runs
            while len(over) in known and known[len(over)].state.is_finished():
                over.append(known[len(over)])
            try:
                trials = over + [known[number] for number in range(len(over), len(known))]
            except KeyError:  # one that this process has not read yet is missing between
                trials = [known[number] for number in sorted(known)]
            if states is not None:
                trials = [trial for trial in trials if trial.state in states]
            return copy.deepcopy(trials) if deepcopy else trials


@contextmanager
def together(trial: Trial) -> Iterator[None]:
    """Within, what a trial draws is written at the end, in one transaction: a kill leaves all of it or nothing."""
    storage: Any = trial.storage
    backend = getattr(storage, "_backend", None)
    if not isinstance(backend, Storage):
        yield
        return
    gathered: dict[str, tuple[float, BaseDistribution]] = {}

    class Gather:
        def __getattr__(self, name: str) -> Any:
            return getattr(storage, name)

        def set_trial_param(self, trial_id: int, name: str, value: float, domain: BaseDistribution) -> None:
            _check(storage, trial_id, name, domain)
            gathered[name] = (value, domain)

    trial.storage = Gather()  # type: ignore[assignment]
    try:
        yield
    finally:
        trial.storage = storage
    if gathered:
        backend.set_params(trial._trial_id, gathered)


def note(trial: Trial, attrs: Mapping[str, Any]) -> None:
    """Set user attributes of a trial, in one transaction where the storage can."""
    backend = getattr(trial.storage, "_backend", None)
    if isinstance(backend, Storage):
        backend.set_user_attrs(trial._trial_id, attrs)
        trial._cached_frozen_trial.user_attrs.update(attrs)
        return
    for name, value in attrs.items():
        trial.set_user_attr(name, value)


def _check(storage: Any, trial_id: int, name: str, domain: BaseDistribution) -> None:
    """Refuse a domain that is not the study's, as the storage would at each parameter. Errors: ValueError."""
    study_id, _ = storage._trial_id_to_study_id_and_number[trial_id]
    known = storage._studies[study_id].param_distribution
    if name not in known:
        text = storage._backend.domain_text(study_id, name)
        known[name] = _domain(text) if text else domain
    optuna.distributions.check_distribution_compatibility(known[name], domain)

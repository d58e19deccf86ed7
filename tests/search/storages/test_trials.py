"""The trials of a study, written by number: whole, once, and waited for."""

import random
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from search.runtime import retry
from search.storages.attributes import OfTrial
from search.storages.trials import twin
from tests import studies

optuna.logging.set_verbosity(optuna.logging.ERROR)
DOMAINS = {"x": FloatDistribution(0.0, 1.0), "c": CategoricalDistribution(["a", None, 3])}
PARAMS = {"x": 0.25, "c": None}


@pytest.fixture
def storage(tmp_path: Path) -> RDBStorage:
    return RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")


def test_a_trial_is_inserted_with_all_that_it_has(storage: RDBStorage) -> None:
    study, before = studies.new(storage=storage), time.time()
    study.insert(0, PARAMS, DOMAINS, {"overrides": ["a=1"]}, {"generation": 2})
    (trial,) = optuna.load_study(study_name="s", storage=storage).trials
    assert (trial.number, trial.state, trial.params, trial.distributions) == (0, TrialState.RUNNING, PARAMS, DOMAINS)
    assert trial.user_attrs.pop(OfTrial.BEAT) >= before
    assert trial.user_attrs == {"overrides": ["a=1"]} and trial.system_attrs == {"generation": 2}


def test_a_trial_that_cannot_be_inserted_leaves_nothing(storage: RDBStorage) -> None:
    study = studies.new(storage=storage)
    study.insert(0, PARAMS, DOMAINS, {}, {})
    changed = DOMAINS | {"c": CategoricalDistribution(["a", "new"])}
    with pytest.raises(ValueError, match="dynamic value space"):
        study.insert(1, {"x": 0.5, "c": "new"}, changed, {}, {})
    assert len(study.trials) == 1


def test_what_is_written_twice_is_there_once(storage: RDBStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that is lost: the database has done it, and the caller does it again."""
    study = studies.new(storage=storage)
    monkeypatch.setattr(retry, "limit", 30.0)
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(retry, "says", lambda text: None)
    writes = ["create_new_trial", "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_state_values"]
    with monkeypatch.context() as patch:
        for name in writes:
            patch.setattr(RDBStorage, name, loses_its_reply(getattr(RDBStorage, name)))
        study.insert(0, PARAMS, DOMAINS, {}, {})
        study.report(0, 4, 0.5)
        study.note(0, {"run_id": "r"})
        study.end(0, TrialState.COMPLETE, [0.5])
    (trial,) = study.trials
    assert (trial.state, trial.values, trial.intermediate_values) == (TrialState.COMPLETE, [0.5], {4: 0.5})
    assert trial.params == PARAMS and trial.user_attrs["run_id"] == "r"


def loses_its_reply(method: Any) -> Any:
    """The method, whose first call does what it is to do and raises as a connection that is lost."""
    calls: list[int] = []

    def losing(*args: Any, **more: Any) -> Any:
        calls.append(1)
        done = method(*args, **more)
        if len(calls) == 1:
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))
        return done

    return losing


def test_a_trial_that_is_told_stays_as_it_is(storage: RDBStorage) -> None:
    study = studies.new(storage=storage)
    number = studies.begin(study)
    study.report(number, 1, 0.7)
    study.end(number, TrialState.PRUNED)
    study.end(number, TrialState.COMPLETE, [0.1])
    assert study.trial(number).state == TrialState.PRUNED and study.trial(number).values == [0.7]


def test_constraints_are_optunas(storage: RDBStorage) -> None:
    study = studies.new(storage=storage)
    number = studies.begin(study)
    for _ in range(2):
        study.constrain(number, {"caps.parameters": 0.5, "caps.flops": -0.1})
    assert study.trial(number).constraints == {"caps.parameters": 0.5, "caps.flops": -0.1}


def test_a_second_process_sees_what_a_first_one_does(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    mine, other = (studies.new(storage=RDBStorage(url)) for _ in range(2))
    for study, watching in [(mine, other), (other, mine)] * 2:
        number = studies.begin(study, PARAMS, DOMAINS)
        assert watching.get_trials(deepcopy=False)[number].params == PARAMS
        study.set_user_attr("seen", number)
        study.end(number, TrialState.COMPLETE, [1.0])
        assert watching.get_trials(deepcopy=False)[number].value == 1.0 and watching.user_attrs == {"seen": number}


def test_a_twin_is_what_a_look_at_every_trial_gives() -> None:
    study, luck, under_way = studies.new(), random.Random(1), []
    for k in range(60):
        if under_way and luck.random() < 0.5:
            number = under_way.pop(luck.randrange(len(under_way)))
            state = luck.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
            study.note(number, {"config_sha256": f"{luck.randrange(6)}"})
            study.end(number, state, [luck.random()] if state == TrialState.COMPLETE else None)
        else:
            under_way.append(studies.begin(study))
        trials = study.get_trials(deepcopy=False)
        last = len(trials) - 1 - k % 3
        complete = [t for t in trials[: last + 1] if t.state == TrialState.COMPLETE]
        for a in range(6):
            same = [t.number for t in complete if t.user_attrs["config_sha256"] == f"{a}"]
            found = twin(trials, f"{a}", last)
            assert (found.number if found else None) == min(same, default=None)

"""Several processes at one search: each trial once, one ending, and the trials of a host that has gone."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import IntegrityError

from denoise.config.compose import compose
from search.storages import liveness
from search.storages.attributes import OfTrial
from search.storages.lock import lock
from search.storages.trials import Trials
from search.study import loop, objective, spec
from search.study.modes import Ablation, Joint
from search.tracking.tracker import Tracker
from tests import studies
from tests.process import PATIENCE, start
from tests.quick import CHOICES, SMALL
from tests.search.study.test_loop import SEARCH

pytestmark = pytest.mark.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
ELSEWHERE = {"host": "another-host", "pid": 1, "began": "1"}


@pytest.mark.faults
def test_two_processes_share_a_search_from_its_first_moment(tmp_path: Path) -> None:
    """In a store that is not there yet: the tables, the baseline, each trial and the ending are made once."""
    store = tmp_path / "runs"
    more = ["search.n_trials=4", "search.confirm.finalists=1", "search.confirm.seeds=3", "pruner=none"]
    outputs = [tmp_path / f"output-{k}" for k in range(2)]
    processes = [start(["search", f"store={store}", *SEARCH, *more], output) for output in outputs]
    for process in processes:
        process.join(PATIENCE)
    said = [output.read_text() for output in outputs]
    assert [process.exitcode for process in processes] == [0, 0], said
    tracker = Tracker(None, "denoise-search", store)
    (parent,) = tracker.searches()
    records = tracker.records(parent.info.run_id)
    assert sorted(int(record.number or 0) for record in records) == [0, 1, 2, 3]
    assert all(record.outcome in ("complete", "failed") for record in records)
    assert sum(text.count("/4") for text in said) >= 4 and all("trial" in text for text in said)
    confirming = tracker.find(**{"mlflow.parentRunId": parent.info.run_id, "role": "confirm"})
    seeds = sorted((run.data.tags["confirms"], run.data.tags["seed"]) for run in confirming)
    assert len(seeds) == len(set(seeds)) and len(seeds) in (4, 6), "each arm on each seed once"
    assert all(run.info.status == "FINISHED" for run in [parent, *confirming])


@pytest.fixture
def study(tmp_path: Path) -> Trials:
    prepared = loop.prepare([f"store={tmp_path}", *SMALL, *CHOICES])
    return loop.open_stores(prepared)[0]


@pytest.mark.parametrize(("seconds", "dead"), [(0, False), (60, False), (600, True)])
def test_a_trial_of_another_host_is_left_behind_where_it_has_long_been_silent(
    study: Trials, seconds: int, dead: bool
) -> None:
    """A container that is started again has another host name."""
    number = studies.begin(study, worker=ELSEWHERE)
    study.note(number, {OfTrial.BEAT: time.time() - seconds})
    running = study.get_trials(deepcopy=False)
    assert [t.number for t in liveness.abandoned(study, running)] == ([0] if dead else [])
    assert [t.number for t in liveness.elsewhere(study)] == ([] if dead else [0])


def test_a_trial_under_way_says_so_at_once_and_again_whatever_goes_wrong(
    study: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[int] = []
    thrice, beat = threading.Event(), Trials.beat

    def counted(self: Any, number: int) -> None:
        beats.append(number)
        if len(beats) == 1:
            raise optuna.exceptions.StorageInternalError("the database is away for a moment")
        beat(self, number)
        if len(beats) == 3:
            thrice.set()

    monkeypatch.setattr(Trials, "beat", counted)
    monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.01)
    number = studies.begin(study)
    first = study.trial(number).user_attrs[OfTrial.BEAT]
    with liveness.beating(study, number):
        assert thrice.wait(PATIENCE)
    assert set(beats) == {number} and study.trial(number).user_attrs[OfTrial.BEAT] > first


def test_weights_of_a_trial_that_is_not_told_yet_are_not_forgotten_by_another_worker(tmp_path: Path) -> None:
    told = []
    for number in range(4):
        trial = create_trial(value=0.5 - 0.1 * number, user_attrs={"run_id": f"run{number}"})
        trial.number = number
        told.append(trial)
    search = SimpleNamespace(
        store=tmp_path, name="s", mode=object.__new__(Joint), settings=compose([], "search").cfg.search
    )
    search.settings.confirm.finalists = 1
    session: Any = SimpleNamespace(search=search, trials=lambda *states: told)
    files = [objective.weights_file(search, f"run{number}") for number in range(6)]  # type: ignore[arg-type]
    files[0].parent.mkdir(parents=True)
    for path in files:
        path.touch()
    objective._forget(session)
    left = sorted(path.stem for path in files[0].parent.iterdir())
    assert left == ["best-run0", "best-run3", "best-run4", "best-run5"], (
        "the baseline's, the best's, those not told yet"
    )


def test_a_smaller_round_waits_for_the_trials_before_it() -> None:
    """Which arms stay is chosen by all that they did, not by what happened to be over."""
    arms = ["search=ablation", "search.scientific=[activation]", "search.nuisance=[optimizer.lr]"]
    sizes = ["search.min_per_arm=1", "search.per_arm=2", "search.keep=0.5"]
    prepared = loop.prepare([*SMALL[:3], *arms, *sizes, "search.kinds.activation=[silu,relu,gelu,mish]"])
    mode, study = prepared.mode, studies.new()
    assert isinstance(mode, Ablation) and [mode.size(number) for number in (0, 1)] == [4, 2]
    begun = []
    for _ in range(4):
        start = mode.next_start(study.trials)
        assert start is not None
        begun.append(start.attrs["arm"])
        studies.begin(study, **start.attrs)
    for number in range(3):
        study.end(number, TrialState.COMPLETE, [0.5 - 0.1 * number])
    assert mode.next_start(study.trials) is None, "the last arm still runs"
    study.end(3, TrialState.COMPLETE, [0.1])
    for arm in ("activation=silu", begun[3]):
        start = mode.next_start(study.trials)
        assert start is not None and start.attrs == {"arm": arm, "round": 1}
        studies.begin(study, **start.attrs)


def test_a_dashboard_may_make_the_tables_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds no lock of ours: what is there then is taken."""
    prepared = spec.prepare([f"store={tmp_path}", *SMALL, *CHOICES])
    tables = sqlalchemy.MetaData.create_all

    def twice(self: Any, engine: Any, *given: Any, **more: Any) -> None:
        monkeypatch.undo()
        optuna.storages.RDBStorage(prepared.storage_url)  # all of the other's, between two statements of ours
        tables(self, engine, *given, **more)
        raise IntegrityError("INSERT INTO alembic_version", {}, Exception("UNIQUE constraint failed"))

    monkeypatch.setattr(sqlalchemy.MetaData, "create_all", twice)
    study, _ = loop.open_stores(prepared)
    assert study.get_trials() == [] and study.study_name == prepared.name


def test_a_turn_is_waited_for_and_ends_with_its_process(tmp_path: Path) -> None:
    order, waiting, done, calls = [], threading.Event(), threading.Event(), []

    def meanwhile() -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            waiting.set()

    def second() -> None:
        with lock(tmp_path, "x", meanwhile):
            order.append("second")
        done.set()

    with lock(tmp_path, "x"):
        other = threading.Thread(target=second)
        other.start()
        assert waiting.wait(PATIENCE)
        order.append("first")
    assert done.wait(PATIENCE) and order == ["first", "second"]
    other.join()
    killed = start(["best", f"store={tmp_path}"], tmp_path / "output", HOLDS.format(store=str(tmp_path)))
    killed.join(PATIENCE)
    assert killed.exitcode == 9
    with lock(tmp_path, "x", lambda: pytest.fail("a process that is gone holds it")):
        pass


HOLDS = """
import os
from pathlib import Path
from search.storages.lock import lock
held = lock(Path({store!r}), "x")
held.__enter__()
os._exit(9)
"""

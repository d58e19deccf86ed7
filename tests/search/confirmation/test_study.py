"""The trainings of a confirmation as trials of a study of their own: who takes them, and what a death costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState
from safetensors.torch import load_file, save

from denoise.training.train import sha256
from search.analysis.confirmation import Confirmation, Settings
from search.cli import standby
from search.confirmation import run as confirming
from search.confirmation import study as queue
from search.confirmation import trainings
from search.confirmation.study import Queue, made, note_death, take_part, there
from search.confirmation.trainings import Trainings
from search.report.confirmation import sentences
from search.storages import database, liveness
from search.storages.lock import lock
from search.study import finish, loop, migrate
from search.tracking.tracker import Run, Tracker
from search.trial import provenance
from search.trial.run import TESTED, TrialResult
from search.workers import shared
from tests import quick, studies
from tests.process import PATIENCE, context
from tests.search.confirmation.test_confirmation import BASELINE, RECORDS, Screen, opened

pytestmark = pytest.mark.filterwarnings("ignore")
ONE = Settings(1, 3, 1000, 0.95, 32)
NUMBERS = {"silu": 0.5, "gelu": 0.4, "sigmoid": 0.6}


def formula(composed: Any, run: Run, screen: Any, stop: Any, *rest: Any, keep: Any, **more: Any) -> TrialResult:
    """In place of a training: a value for each activation and seed, and weights that hold it."""
    value = NUMBERS[composed.choices["activation"]] + composed.cfg.seed % 7 * 0.001
    weights = {"w": torch.tensor([value])}
    stop(2, value + 2, {})
    keep(SimpleNamespace(weights=weights))
    metrics = {"val/loss": value + 1, "test/loss": value}
    run.metrics(4, metrics)
    run.artifacts({TESTED: save({"losses": torch.full((32,), value, dtype=torch.float64), "image": torch.arange(32)})})
    run.end("complete", {"step": "4", "weights_sha256": sha256(weights)})
    return TrialResult(run.run_id, "complete", 4, value + 1, "", "", None, metrics)


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "perform", formula)
    monkeypatch.setattr(confirming, "ensembles", lambda *given: [])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("confirm") / "runs"


def confirmed(
    store: Path, name: str, storage: BaseStorage | None = None, settings: Settings = ONE
) -> tuple[Confirmation, Screen]:
    screen = Screen()
    return confirming.confirm(settings, *opened(store, name), RECORDS, BASELINE, screen, storage), screen


def content(found: Confirmation) -> dict[str, Any]:
    """All of it but the names of runs."""
    plain = asdict(found)
    for arm in (plain["baseline"], *plain["finalists"]):
        del arm["runs"]
    return plain


@pytest.fixture(scope="module")
def undisturbed(store: Path) -> Confirmation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "perform", formula)
        patch.setattr(confirming, "ensembles", lambda *given: [])
        return confirmed(store, "undisturbed")[0]


def beside(url: str, name: str, tracking: str, locks: Path, store: Path, meeting: Barrier) -> None:
    """Another machine: it knows the search by its storage and the tracker. It trains one, while the first trains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "lock", lambda store, what, url: lock(locks, what))  # as PostgreSQL has it
        patch.setattr(Queue, "apart", True)
        patch.setattr(trainings, "perform", meets(meeting, 1))
        tracker, study = Tracker(tracking, "denoise-search", store), database.open_study(url, name, 1)
        (parent,) = tracker.find(role="search", study=name)
        meeting.wait()
        assert take_part(study, tracker, Run(tracker, parent.info.run_id), Screen())
        assert not [path for path in store.rglob("confirm-*") if path.is_file()]


def meets(meeting: Barrier, times: int) -> Any:
    """The formula, whose first training in this process waits for the other one: that it is there, that it trains."""
    met: list[int] = []

    def perform(*given: Any, **more: Any) -> TrialResult:
        while len(met) < times:
            met.append(meeting.wait())
        return formula(*given, **more)

    return perform


def test_a_process_that_knows_the_search_by_its_storage_takes_a_training(
    store: Path, undisturbed: Confirmation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, meeting = f"sqlite:///{tmp_path / 'optuna.db'}", context().Barrier(2, timeout=PATIENCE)
    study = database.open_study(url, "beside", 1)
    tracker, parent = opened(store, "beside")
    other = context().Process(target=beside, args=(url, "beside", tracker.uri, store, tmp_path / "other", meeting))
    other.start()
    monkeypatch.setattr(trainings, "perform", meets(meeting, 2))
    monkeypatch.setattr(Queue, "apart", True)
    found, screen = confirmed(store, "beside", study.storage)
    other.join(PATIENCE)
    assert other.exitcode == 0 and content(found) == content(undisturbed)
    assert len(screen.trained) == 6, "what the other trained is shown too"
    done = made(study.storage, "beside").trials
    assert len(done) == 6 and len({trial.user_attrs["worker"]["pid"] for trial in done}) == 2
    assert {trial.user_attrs["run_id"] for trial in done} == {run for arm in found.arms for run in arm.runs.values()}
    kept = Trainings(tracker, parent)
    for trial in done:
        assert trial.state == TrialState.COMPLETE and trial.intermediate_values[2] == trial.value + 2
        path = kept.weights(trial.user_attrs["config_sha256"])
        assert load_file(path)["w"].item() == pytest.approx(trial.value) and kept.waits(
            trial.user_attrs["run_id"], path
        )


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(("deaths", "fails"), [(1, False), (2, True)])
def test_what_a_process_died_at_is_taken_by_another_and_ends_as_crashed_after_two(
    deaths: int, fails: bool, store: Path, undisturbed: Confirmation, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, study = f"dies-{deaths}", studies.new(f"dies-{deaths}", storage=InMemoryStorage())
    for life in range(deaths):
        quick.a_new_process(monkeypatch, life)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(trainings, "perform", lambda *given, **more: (_ for _ in ()).throw(Killed()))
            confirmed(store, name, study.storage)
        death = {"pid": 1, "began": f"{life}", "counts": True, "how": "its process was killed by SIGSEGV"}
        note_death(study, death)
    quick.a_new_process(monkeypatch, deaths)
    found, screen = confirmed(store, name, study.storage)
    assert len(screen.trained) == 6 and len(made(study.storage, name).trials) == 6
    if fails:
        assert found.baseline.failures == {1000: "crashed"} and found.finalists[0].untuned.pairs == 2
        assert "The baseline failed on 1 of 3 seeds (crashed)" in "\n".join(sentences(found))
        record = opened(store, name)[0].record(found.baseline.runs[1000])
        assert record.failure == "crashed: its process was killed by SIGSEGV; the second time"
    else:
        assert content(found) == content(undisturbed)


def test_trainings_of_other_settings_or_code_that_were_left_are_not_done(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = studies.new("left", storage=InMemoryStorage())
    for life, code in enumerate(("another", provenance.code())):
        quick.a_new_process(monkeypatch, life)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(provenance, "code", lambda code=code: code)
            patch.setattr(trainings, "perform", lambda *given, **more: (_ for _ in ()).throw(Killed()))
            confirmed(store, "left", study.storage, Settings(2, 3, 1000, 0.95, 32))
        if code == "another":
            tracker, parent = opened(store, "left")
            assert not take_part(study, tracker, parent, Screen()), "it is of another code"
    quick.a_new_process(monkeypatch, 2)
    found, screen = confirmed(store, "left", study.storage)
    assert [number for number, _ in screen.trained] == [0, 2] * 3 and len(found.arms) == 2
    states = [trial.state.name for trial in made(study.storage, "left").trials]
    assert states.count("COMPLETE") == 6 and states.count("FAIL") == len(states) - 6 == 12


def test_a_confirmation_from_before_there_was_this_study_is_not_trained_again(store: Path) -> None:
    before, _ = confirmed(store, "before")
    storage = InMemoryStorage()
    found, screen = confirmed(store, "before", storage, Settings(1, 4, 1000, 0.95, 32))
    assert all(arm.runs.items() <= now.runs.items() for arm, now in zip(before.arms, found.arms, strict=True))
    assert len(screen.trained) == len(made(storage, "before").trials) == found.trainings - 6


def test_it_is_not_listed_as_a_search(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = database.open_study(url, "one", 1)
    study.set_user_attr("family", "f")
    shared.ask(study, [])
    assert there(study) is None
    second = made(study.storage, "one")
    second.insert(0, {}, {}, {}, {})
    assert (found := there(study)) is not None and found.id == second.id
    later = database.open_study(url, "two", 1)
    assert [each.study_name for each in later.others()] == ["one"]
    assert migrate.latest(later, "f") is None, "the search has no trials"
    assert standby.open_searches(url) == [("one", [])]


def test_an_order_in_the_storage_that_is_none_is_refused(store: Path) -> None:
    study = studies.new("odd", storage=InMemoryStorage())
    tracker, parent = opened(store, "odd")
    second = made(study.storage, "odd")
    asked = {"confirms": "r", "trial": 1, "differs": "gelu", "seed": 3, "code": provenance.code()}
    for number, (overrides, said) in enumerate(
        [
            (["activation._target_=os.system"], "would choose code to run"),
            (["activation=gelu"], "another config here"),
            (None, "no training of a confirmation"),
        ]
    ):
        second.insert(number, {}, {}, asked | ({"overrides": overrides} if overrides else {}), {})
        with pytest.raises(queue.UserError, match=said):
            take_part(study, tracker, parent, Screen())
        assert liveness.abandoned(second, [second.trial(number)]), "it was not taken"
        second.end(number, TrialState.FAIL)


def test_a_worker_whose_search_has_ended_meanwhile_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the lock of the end, takes part while it does, and keeps nothing of that on its disk."""
    quick.free(monkeypatch)
    search = quick.asked(f"store={tmp_path}", *quick.SMALL, *quick.NUMBERS, "search.n_trials=1", "search.workers=1")
    study, tracker = loop.open_stores(search)
    shared.ask(study, [])
    left = tmp_path / "checkpoints" / search.name / "confirm-0.ckpt"

    @contextmanager
    def ends(store: Path, what: str, waits: Any = None, url: str = "") -> Iterator[None]:
        if what.endswith("-end"):
            waits()
            left.parent.mkdir(parents=True, exist_ok=True)
            left.touch()
            shared.end(study)
        yield

    monkeypatch.setattr(loop, "lock", ends)
    monkeypatch.setattr(finish, "end", lambda *given: pytest.fail("it has ended"))
    display = quick.Silent()
    answer = loop.run(search, study, tracker, display, 0.0)  # type: ignore[arg-type]
    assert answer.confirmation is None and len(answer.records) == 1 and not left.exists()
    assert "another process is ending this search" in display.notes

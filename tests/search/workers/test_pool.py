"""Several processes at one search: the same trials as one alone, whatever their number, their speed and their end."""

import io
import os
import random
import threading
import time
import warnings
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.pruners import SuccessiveHalvingPruner
from rich.console import Console
from sqlalchemy.exc import OperationalError

from denoise.config.compose import compose
from denoise.training import train
from search.pruners import decision
from search.report.progress import Display
from search.runtime import watchdog
from search.storages import liveness
from search.storages.snapshot import seen
from search.study import loop, spec
from search.workers import pool as pool_module
from search.workers.allocation import GPUS, Division, division, likely_several
from search.workers.pool import Worker, WorkerPool
from tests import studies
from tests.process import PATIENCE, context
from tests.quick import CHOICES, SMALL, Silent, content, formula, free, run
from tests.search.pruners.test_pruners import MORE, everyone

pytestmark = pytest.mark.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("name", ["funnel", "successive_halving", "median"])
def test_any_number_of_searchers_gives_the_trials_of_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three processes, each as fast as luck will have it, with a sampler that learns.

    The pruners look at values, at what a decision notes, and at complete trials.
    """
    asked = [f"pruner={name}", *MORE.get(name, []), "sampler.n_startup_trials=3", "search.n_trials=12", "search.lag=4"]
    alone, _ = run(tmp_path / "one", [*asked, *CHOICES], monkeypatch)
    typed = [f"store={tmp_path / 'three'}", *SMALL, *asked, *CHOICES]
    meeting = context().Barrier(3, timeout=PATIENCE)
    searchers = [context().Process(target=search_on, args=(typed, seed, meeting), daemon=True) for seed in range(3)]
    for searcher in searchers:
        searcher.start()
    for searcher in searchers:
        searcher.join(PATIENCE)
    assert [searcher.exitcode for searcher in searchers] == [0, 0, 0], "one failed, and says why above"
    (found,) = optuna.get_all_study_names(f"sqlite:///{tmp_path / 'three' / 'optuna.db'}")
    study = optuna.load_study(study_name=found, storage=f"sqlite:///{tmp_path / 'three' / 'optuna.db'}")
    assert len({trial.user_attrs["worker"]["pid"] for trial in study.trials}) == 3, "they ran one after the other"
    assert content(study) == alone


def search_on(typed: list[str], seed: int, meeting: Barrier) -> None:
    """Take part in a search, each evaluation a while later than the one before.

    The first training waits for those of the others, so that none has found all trials before the others begin.
    """
    luck, met = random.Random(seed), []

    def unsteady(cfg: Any, module: Any, observer: Any, *args: Any) -> train.Result:
        if not met:
            met.append(meeting.wait())

        def on_objective(step: int, value: float) -> bool:
            time.sleep(luck.random() ** 4 * 0.05)
            return bool(observer.on_objective(step, value))

        return formula(cfg, module, SimpleNamespace(on_metrics=observer.on_metrics, on_objective=on_objective))

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        free(patch)
        patch.setattr(train, "fit", unsteady)
        prepared = spec.prepare(typed)
        session = loop.join(prepared, *loop.open_stores(prepared), Silent())  # type: ignore[arg-type]
        try:
            while loop.next_trial(session):
                pass
        except BaseException:
            meeting.abort()  # the others wait for this one no longer
            raise


def test_how_a_search_is_divided() -> None:
    def of(cores: int, *overrides: str) -> Division:
        return division(compose(list(overrides), "search").cfg, cores)

    assert of(1) == Division(1, None, 1)
    assert of(2) == Division(2, 1, 6)
    assert of(16) == Division(4, 4, 12)
    assert of(16, "trainer.num_threads=8") == Division(2, None, 6)
    assert of(2, "trainer.num_threads=8") == Division(1, None, 1)
    assert of(8, "search.workers=2") == Division(2, 4, 6)
    assert of(8, "search.workers=1") == Division(1, None, 1)
    assert of(8, "search.workers=1", "search.lag=6") == Division(1, None, 6)
    memory = ["search=pareto", "search.cost=peak_memory_bytes"]
    for timed in (["search.equal=time"], ["search=pareto"], ["search.caps.step_seconds=1.0"], memory):
        assert of(8, *timed).workers == 1, "a step beside others takes longer"
    assert of(8, "search=pareto", "search.cost=parameters").workers == 4


@pytest.mark.skipif(any(Path(device).exists() for device in GPUS), reason="on a GPU's machine nothing is said early")
@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_a_second_process_is_foretold_without_torch(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `division` says it later, where a core is a core."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS")
    for overrides in (
        [],
        ["trainer.num_threads=2"],
        ["search.workers=1"],
        ["search.workers=3"],
        ["search.equal=time"],
        ["search.caps.step_seconds=1.0"],
        ["search=pareto", "search.cost=peak_memory_bytes"],
        ["trainer.accelerator=cpu"],
    ):
        cfg = compose(overrides, "search").cfg
        assert likely_several(cfg) == (division(cfg, cores).workers > 1), f"{cores} cores, {overrides}"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not likely_several(compose([], "search").cfg)


def test_where_a_gpu_may_be_no_second_process_is_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.workers.allocation.GPUS", (str(tmp_path),))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert not likely_several(compose([], "search").cfg)
    assert likely_several(compose(["trainer.accelerator=cpu"], "search").cfg)


def test_a_member_too_many_is_ended_and_not_replaced() -> None:
    with WorkerPool(["search", "trainer.max_steps=2"]) as pool:
        pool.resize(2)
        first, second = (worker.process for worker in pool.workers)
        pool.resize(1)
        assert second.wait(PATIENCE) != 0
        with pool.changed:
            assert pool.changed.wait_for(lambda: len(pool.workers) == 1, PATIENCE)
        assert [worker.process for worker in pool.workers] == [first] and first.poll() is None
        assert not pool.died and not pool.unsaid
    assert first.returncode is not None


class Died:
    """A process that was killed, and whose output a child of its own holds open."""

    pid, stdin = os.getpid(), io.StringIO()
    stdout = property(lambda self: os.fdopen(os.dup(os.pipe()[0])))

    def wait(self, seconds: float | None = None) -> int:
        return -9


def test_how_a_member_ended_is_noted_when_the_storage_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trial is not taken up before, as long as its starter lives."""
    locked: list[Exception] = [OperationalError("INSERT", {}, Exception("database is locked")) for _ in range(3)]
    noted: list[Any] = []

    def note(found: watchdog.Death) -> None:
        if locked:
            raise locked.pop()
        noted.append(found)

    monkeypatch.setattr(pool_module, "LAST_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.01)
    pool, worker = WorkerPool([]), Worker(1, Died(), io.StringIO())  # type: ignore[arg-type]
    pool.note_death, pool.workers = note, [worker]
    worker.seen.hear({"at": "trial 1", "trial": True})
    pool._follow(worker)
    assert [each["how"] for each in noted] == [watchdog.how(-9)] and not pool.workers and not pool.error
    locked.append(AssertionError("a mistake of ours"))
    pool.workers = [worker]
    worker.errors = io.StringIO()
    pool._follow(worker)
    assert isinstance(pool.error, AssertionError) and not pool.workers


def test_who_begins_a_search_says_how_it_is_divided(tmp_path: Path) -> None:
    """A machine with other cores that goes on with it trains as the first one did: the same bits, the same draws."""
    typed = [f"store={tmp_path}", *[text for text in SMALL if "num_threads" not in text], *CHOICES]
    found = []
    for more in (["search.workers=2"], ["search.workers=1"], ["search.workers=3", "search.lag=5"]):
        prepared = spec.prepare([*typed, *more])
        session = loop.join(prepared, *loop.open_stores(prepared), Silent())  # type: ignore[arg-type]
        found.append((prepared.name, session.search.baseline, session.search.mode.lag, session.parent.run_id))
    assert found[0] == found[1] == found[2]
    assert "trainer.num_threads=1" in found[0][1] and found[0][2] == 6
    assert "trainer.num_threads=1" not in prepared.baseline, "what was checked stays as it was"


def test_a_search_of_before_goes_on_as_it_was(tmp_path: Path) -> None:
    """One that was begun when there was one process: as many threads as torch took, each trial known to the next."""
    typed = [f"store={tmp_path}", *[text for text in SMALL if "num_threads" not in text], *CHOICES, "search.workers=2"]
    prepared = spec.prepare(typed)
    study, tracker = loop.open_stores(prepared)
    studies.begin(study)
    session = loop.join(prepared, study, tracker, Silent())  # type: ignore[arg-type]
    assert session.search.mode.lag == 1 and not [text for text in session.search.baseline if "num_threads" in text]


def test_a_note_does_not_wait_for_who_draws_the_picture() -> None:
    """rich draws under its own lock, and asks for ours: a note takes them the other way round."""
    display, drawn = Display("s", 3, Console(file=io.StringIO(), force_terminal=True)), threading.Event()

    class Slow(Console):
        def print(self, *args: Any, **more: Any) -> None:
            other = threading.Thread(target=lambda: (display.render(), drawn.set()))
            other.start()
            assert drawn.wait(PATIENCE)

    display.console = Slow(file=io.StringIO())
    display.note("a worker ended")
    assert drawn.is_set()


def test_a_trial_that_is_lost_for_good_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has gone and nobody takes it up: who waits says so once, and is judged without it."""
    prepared = spec.prepare([f"store={tmp_path}", *SMALL, *CHOICES])
    study, _ = loop.open_stores(prepared)
    lost, waiting = studies.begin(study), studies.begin(study)
    study.note(lost, {"worker": {"host": os.uname().nodename, "pid": 2**22 + 1, "began": "1"}})
    halving = SuccessiveHalvingPruner(min_resource=1)
    monkeypatch.setattr(decision, "LOST_SECONDS", 0.0)
    said: list[str] = []
    for step in (1, 2):
        study.report(waiting, step, 0.5)
        assert not decision.should_stop(study, halving, waiting, prepared.mode.rivals, 4, says=said.append)
    assert len(said) == 1 and "trial 0" in said[0] and "trial 1" in said[0]


def test_a_trial_that_was_read_while_it_wrote_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage reads the parts of a trial one after the other, and its worker writes meanwhile.

    Here it had read what Optuna's pruner notes before the worker noted it, and that a decision was taken after.
    """
    study, halving = studies.new(), SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    better, worse = studies.begin(study, worker=liveness.me()), studies.begin(study, worker=liveness.me())
    for number, values in ((better, (0.5, 0.3)), (worse, (0.4, 0.4))):
        study.report(number, 1, values[0])
        assert not decision.should_stop(study, halving, number, everyone, 4)
        study.report(number, 2, values[1])
    before = study.trial(better).system_attrs.copy()
    assert not decision.should_stop(study, halving, better, everyone, 4)
    torn = [seen(study.trial(better), attrs=before), study.trial(worse)]
    whole, reads = study.get_trials, [torn]
    monkeypatch.setattr(study, "get_trials", lambda **more: reads.pop() if reads else whole(**more))
    assert decision.should_stop(study, halving, worse, everyone, 4)

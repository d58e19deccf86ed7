"""What fails around a training is no fault of its config: waited for, or the end of the process, and never a FAIL."""

import errno
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from google.protobuf.json_format import ParseError
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.protos.service_pb2 import GetExperimentByName
from mlflow.tracking import MlflowClient
from mlflow.utils.proto_json_utils import parse_dict
from optuna.exceptions import StorageInternalError
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from denoise import fault
from denoise.config import compose
from denoise.errors import UserError
from denoise.fault import Outside
from denoise.interruption import interruptible
from denoise.training import train
from denoise.training.checkpoint import whole
from search.__main__ import main
from search.runtime import retry
from search.tracking import weights
from tests import quick, tiny
from tests.quick import CHOICES, a_new_process, run

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
SIX = [*CHOICES, "search.n_trials=6", "search.workers=1"]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        return run(tmp_path_factory.mktemp("alone"), SIX, patch)[0]


def every_first(patch: pytest.MonkeyPatch, cls: type, names: list[str], error: Callable[[], Exception]) -> Counter[str]:
    """From here on each call of these methods fails once before it does anything; how often each has failed."""
    failed: Counter[str] = Counter()
    inside = [False]  # a method that another one calls is a part of that call

    def failing(name: str, call: Any) -> Any:
        fails = [True]

        def method(self: Any, *given: Any, **more: Any) -> Any:
            if inside[0]:
                return call(self, *given, **more)
            if fails[0]:
                fails[0] = False
                failed[name] += 1
                raise error()
            fails[0] = inside[0] = True
            try:
                return call(self, *given, **more)
            finally:
                inside[0] = False

        return method

    for name in names:
        patch.setattr(cls, name, failing(name, getattr(cls, name)))
    return failed


def test_a_tracker_whose_every_call_fails_once_changes_nothing(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick.loop.open_stores(quick.asked(f"store={tmp_path}", *quick.SMALL, *SIX))  # there, what is away is refused
    names = [name for name in dir(MlflowClient) if not name.startswith("_") and name != "get_experiment_by_name"]
    names = [name for name in names if callable(getattr(MlflowClient, name))]
    away = lambda: MlflowException("the server starts", error_code=TEMPORARILY_UNAVAILABLE)  # noqa: E731
    failed = every_first(monkeypatch, MlflowClient, names, away)
    found, display = run(tmp_path, SIX, monkeypatch)
    assert found == undisturbed
    assert failed["log_batch"] > 12 and failed["create_run"] == 7 and failed["set_terminated"] == 7
    assert any("the tracker does not answer" in note for note in display.notes)


def test_a_storage_that_is_away_now_and_then_changes_nothing(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 41st statement finds no connection, wherever that is in a transaction; the longest has fewer."""
    asked = Counter[str]()

    def away(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "optuna.db" in str(connection.engine.url):
            asked["statements"] += 1
            if asked["statements"] % 41 == 0:
                asked["failed"] += 1
                raise OperationalError(statement, {}, Exception("server closed the connection unexpectedly"))

    def opened(*given: Any) -> Any:
        event.listen(Engine, "before_cursor_execute", away)
        try:
            return begin(*given)
        finally:
            event.remove(Engine, "before_cursor_execute", away)

    begin = quick.loop.run
    monkeypatch.setattr(quick.loop, "run", opened)  # while it is opened, what is away is refused
    found, display = run(tmp_path, SIX, monkeypatch)
    assert found == undisturbed
    assert asked["failed"] > 5
    assert any("the storage does not answer" in note for note in display.notes)


def test_a_tracker_that_stays_away_ends_the_process_and_the_trial_goes_on(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()

    def away(self: Any, *given: Any, **more: Any) -> Any:
        calls["log_batch"] += 1
        if calls["log_batch"] > 9:
            raise MlflowException("no connection", error_code=TEMPORARILY_UNAVAILABLE)
        return real(self, *given, **more)

    real = MlflowClient.log_batch
    a_new_process(monkeypatch, 0)
    with monkeypatch.context() as patch, pytest.raises(Outside, match="the tracker has not answered for 0.01 seconds"):
        patch.setattr(MlflowClient, "log_batch", away)
        run(tmp_path, [*SIX, "tracking.patience=0.01"], patch)
    a_new_process(monkeypatch, 1)
    assert run(tmp_path, SIX, monkeypatch)[0] == undisturbed


FILES = [(os, "replace"), (os, "rename"), (os, "mkdir"), (Path, "write_bytes"), (Path, "open"), (Path, "unlink")]


def test_a_disk_that_is_full_at_any_file_ends_the_process_and_no_trial(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place at which a search writes a file fails once, a process each; afterwards all is as it would be."""
    met: Counter[str] = Counter()

    def failing(name: str, call: Any) -> Any:
        def write(path: Any, *given: Any, **more: Any) -> Any:
            place = f"{name} {re.sub('[0-9a-f]{4,}|[0-9]+', '', Path(os.fspath(path)).name)}"
            if str(tmp_path) in str(path) and place not in met:
                met[place] += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(path, *given, **more)

        return write

    for owner, name in FILES:
        monkeypatch.setattr(owner, name, failing(name, getattr(owner, name)))
    for life in range(60):
        a_new_process(monkeypatch, life)
        try:
            found, _ = run(tmp_path / "runs", SIX, monkeypatch)
        except (OSError, fault.Outside, UserError) as error:
            assert "No space left" in str(error), error
        else:
            break
    assert found == undisturbed
    assert len(met) > 2, met


class Ends(BaseException):
    """No error of anybody's."""


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(), Ends(), FileNotFoundError(2, "x")]
)
def test_what_a_component_raises_is_an_error_of_its_config(error: BaseException) -> None:
    """Whatever it is; and Ctrl-C is heard as before."""
    import signal

    handler = signal.getsignal(signal.SIGINT)
    with interruptible(), pytest.raises(Exception) as found:
        _fit(error)
    assert type(error).__name__ in fault.line(found.value) and not isinstance(found.value, Outside)
    assert signal.getsignal(signal.SIGINT) is handler


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def _of_itself() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Mute(), "Mute"),
        (_of_itself(), "ValueError: first"),
        (ValueError("a\udcffb\0c"), "ValueError: a?b\ufffdc"),
    ],
)
def test_an_error_of_any_form_is_said_in_words_that_every_store_takes(error: Exception, said: str) -> None:
    with pytest.raises(type(error)) as found:
        fault.blame(error)
    assert fault.line(found.value) == said and not fault.of_memory(error) and not fault.of_the_world(error)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE])
def test_what_the_machine_raises_is_not(number: int) -> None:
    with pytest.raises(Outside, match="OSError"):
        _fit(OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_no_memory_left_is_out_of_memory(error: BaseException) -> None:
    result = _fit(error)
    assert result.failure is not None and result.failure.kind == "out_of_memory"


def test_an_answer_that_is_none_of_mlflow_s_is_the_world_s() -> None:
    with pytest.raises(ParseError) as found:
        parse_dict({"experiment": {"name": 3}}, GetExperimentByName.Response())
    assert fault.of_the_world(found.value) and fault.line(found.value).startswith("ParseError")


def test_what_failed_outside_is_said_once() -> None:
    with pytest.raises(Outside) as found, fault.outside("the tracker"), fault.outside("writing"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert fault.line(found.value) == "writing failed: OSError: [Errno 28] No space left on device"


def test_an_observer_s_error_is_raised_as_it_is() -> None:
    error = Ends()

    class Observer:
        def __getattr__(self, name: str) -> Any:
            raise error

    with pytest.raises(Ends) as found:
        _fit(None, Observer())
    assert found.value is error


STEPS = ("data.batch_size=8", "trainer.max_steps=8", "trainer.val_every=2")


def _fit(error: BaseException | None, observer: Any = None) -> train.Result:
    cfg = compose.compose([*tiny.TINY, *STEPS]).cfg
    module = train.prepare(cfg)

    def loss(*given: Any) -> torch.Tensor:
        raise error  # type: ignore[misc]

    if error is not None:
        module.fast_loss = module.denoiser.loss = loss
    return train.fit(cfg, module, observer, None, None)


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "zeros", "no digest"])
def test_a_state_whose_bytes_are_not_those_written_is_not_believed(how: str, tmp_path: Path) -> None:
    """It is trained anew, with the same end."""
    cfg = compose.compose([*tiny.TINY, *STEPS, "trainer.save_seconds=0"]).cfg
    path = tmp_path / "state.ckpt"
    alone = train.train(cfg).weights_sha256
    train.train(cfg, checkpoint=path)
    assert whole(path)
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-100], "empty": b"", "zeros": bytes(len(content))}.get(how, bytes(content)))
    if how == "no digest":
        path.with_name("state.ckpt.sha256").unlink()
    assert not whole(path)
    assert train.train(cfg, checkpoint=path).weights_sha256 == alone


@pytest.mark.parametrize("how", ["", "flip", "cut", "empty", "pickle"])
def test_weights_that_wait_are_kept_only_where_they_are_those_recorded(how: str, tmp_path: Path) -> None:
    given = {"w": torch.arange(12.0), "none": torch.zeros(0), "count": torch.tensor(3)}
    path = tmp_path / "sub" / "waiting.safetensors"
    weights.keep(path, given)
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[-20] ^= 1
    if how == "pickle":
        torch.save(given, path)
        content = bytearray(path.read_bytes())
    path.write_bytes({"cut": content[:-3], "empty": b""}.get(how, bytes(content)))
    kept: list[Any] = []
    record = SimpleNamespace(tags={"weights_sha256": train.sha256(given)})
    run = SimpleNamespace(
        run_id="1", tracker=SimpleNamespace(record=lambda run_id: record), artifacts=lambda *files: kept.append(files)
    )
    assert weights.put(path, run) == bool(kept) == (how == "")  # type: ignore[arg-type]


def test_a_state_that_cannot_be_written_is_no_fault_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cfg = compose.compose([*tiny.TINY, *STEPS, "trainer.save_seconds=0"]).cfg
    with pytest.raises(Outside, match="saving the state"):
        train.train(cfg, checkpoint=tmp_path / "file" / "state.ckpt")


def test_a_lost_storage_is_one_line_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*given: Any) -> None:
        raise StorageInternalError("An exception is raised during the commit.")

    monkeypatch.setattr(quick.loop, "next_trial", lost)
    assert main(["search", f"store={tmp_path}", *quick.SMALL, *SIX]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith("; the same command resumes it\n")

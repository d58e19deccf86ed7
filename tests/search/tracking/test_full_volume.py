"""A full disk under the files of runs: behind a real MLflow server, in a local store, under /tmp."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from mlflow.exceptions import MlflowException
from safetensors.numpy import save
from urllib3.exceptions import ResponseError

from denoise.errors import UserError
from denoise.fault import Outside
from denoise.training import train
from search.__main__ import main
from search.confirmation.trainings import Trainings
from search.runtime import retry
from search.tracking.artifacts import Files, upload
from search.tracking.tracker import Tracker, open_tracker
from search.trial.run import TESTED
from tests import quick
from tests.mlflow_server import serving

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
THREE = [*quick.CHOICES, "search.n_trials=3", "search.workers=1", "search.name=full"]
RUN = "0" * 32


class Volume:
    """A disk of one megabyte."""

    def __init__(self, path: Path) -> None:
        self.path, self.filler = path, path / "filler"

    def fill(self) -> None:
        """Leave no byte."""
        with self.filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self.filler.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volume]:
    path = tmp_path_factory.mktemp("volume")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip() if done else 'there is no mount'}")
    yield Volume(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def volume(mounted: Volume) -> Iterator[Volume]:
    yield mounted
    mounted.free()


@pytest.fixture
def server(volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("FACTOR", "JITTER"):  # of MLflow's own tries
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_BACKOFF_{name}", "0")
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.0)
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server", volume.path) as address:
        yield address


def states(store: Path) -> list[Any]:
    asked = quick.asked(f"store={store}", *quick.SMALL, *THREE)
    return quick.content(quick.loop.open_study(asked))


def test_a_full_volume_behind_the_server_is_one_line_and_the_search_resumes(
    server: str, volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    undisturbed, _ = quick.run(tmp_path / "alone", THREE, monkeypatch)
    began: list[Any] = []

    def fit(*given: Any) -> train.Result:
        began.append(given)
        if len(began) == 2:
            volume.fill()
        return quick.formula(*given)

    def search(life: int, status: int) -> str:
        quick.a_new_process(monkeypatch, life)
        capfd.readouterr()
        assert main(["search", f"store={tmp_path}", f"tracking.uri={server}", *quick.SMALL, *THREE]) == status
        return capfd.readouterr().err

    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(retry, "NO_ROOM_SECONDS", 0.01)
    volume.fill()
    for life, trained in enumerate([0, 2, 3]):  # full at the start, in the middle, and still
        said = search(life, 1)
        assert said.count("\n") == 1 and said.startswith(f"tracking.uri={server}: answers 500 to an upload of ")
        assert "may be full" in said and said.endswith("free space there; the same command resumes it\n")
        assert len(began) == trained
        if life != 1:
            volume.free()
    assert search(3, 0) == ""
    assert states(tmp_path) == undisturbed
    tracker = Tracker(server, "denoise-search", tmp_path)
    (parent,) = tracker.searches()
    fetched(tracker, parent.info.run_id, volume)
    runs = [parent.info.run_id, *(one.run_id for one in tracker.records(parent.info.run_id))]
    assert len(runs) == 4 and all(tracker.has(run, "config.yaml") for run in runs)


def fetched(tracker: Tracker, run_id: str, volume: Volume) -> None:
    """A file is fetched to a disk with room; where it is full, that is no run without the file."""
    into = volume.path / "fetched"
    into.mkdir()
    volume.fill()
    with pytest.raises(Outside, match=f"RUN={run_id}: config.yaml cannot be fetched; {into} or a disk there"):
        tracker.artifact(run_id, "config.yaml", into)
    with pytest.raises(UserError, match="has no other"):
        tracker.artifact(run_id, "other", into)
    volume.free()
    assert tracker.artifact(run_id, "config.yaml", into).stat().st_size


def answer(code: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = code
    return requests.HTTPError(f"{code}: by a proxy", response=response)


@pytest.mark.parametrize(
    ("code", "well", "tries", "said"),
    [
        (500, True, 2, "may be full"),  # the first and, at the limit, the last
        (507, True, 2, "may be full"),
        (500, False, 4, "may be full"),  # an outage: the whole patience
        (503, True, 4, "answers 503 to an upload of 1 bytes"),
        (413, True, 1, "client_max_body_size"),
        (403, True, 1, "answers 403 to an upload of 1 bytes"),
    ],
)
def test_only_what_may_pass_is_tried_again(
    code: int, well: bool, tries: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second of patience, of which each try takes a third; NO_ROOM_SECONDS is less than one try."""
    now, calls, notes = [0.0], list[Any](), list[str]()

    def refuse(*given: Any) -> None:
        now[0] += 0.34
        calls.append(given)
        raise answer(code)

    def probe() -> None:
        if not well:
            raise MlflowException("no connection")

    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: None))
    monkeypatch.setattr(retry, "NO_ROOM_SECONDS", 0.3)
    client = retry.Patient(SimpleNamespace(log_artifacts=refuse), "the tracker", {"log_artifacts": probe})
    retry.begin(1.0, notes.append)
    try:
        with pytest.raises(Outside) as found:
            upload(client, "http://mlflow", RUN, {"config.yaml": b"x"})
    finally:
        retry.end()
    assert said in str(found.value) and len(calls) == tries and len(notes) == (tries > 1)
    assert ("free space" in str(found.value)) == (code in retry.NO_ROOM)


def test_a_full_disk_under_a_local_store_is_named_and_nothing_is_left_half(volume: Volume) -> None:
    files, content = Files(volume.path, "1"), bytes(300_000)
    files.write(RUN, {"first": content}, "weights")
    with pytest.raises(Outside) as found:
        files.write(RUN, {"second": 4 * content})
    place = volume.path / "artifacts"
    assert str(found.value) == f"{place}: cannot be written (No space left on device); free space there"
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["first"]
    files.write(RUN, {"second": content})
    assert (place / RUN / "artifacts" / "second").read_bytes() == content


def test_a_full_disk_where_a_file_is_copied_to_is_not_a_run_without_it(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is trained again or left out; what cannot be read now is not."""
    monkeypatch.setattr(tempfile, "tempdir", str(volume.path))
    losses = np.linspace(0, 1, 2000)
    tracker = open_tracker(None, "denoise-search", tmp_path)
    run = tracker.start("run", {"overrides": "[]"}, {})
    run.metrics(1, {"test/loss": float(losses.mean())})
    run.flush()
    run.artifacts({TESTED: save({"losses": losses, "image": np.arange(2000)})})
    volume.fill()
    with pytest.raises(OSError, match="No space left on device") as found:
        tracker.artifact(run.run_id, TESTED, volume.path)
    assert str(volume.path) in str(found.value)
    with pytest.raises(OSError, match="No space left on device"):
        Trainings(tracker, run).tested.of(run.run_id)
    volume.free()
    assert (Trainings(tracker, run).tested.of(run.run_id)[0] == losses).all()


def test_a_server_whose_database_is_full_is_named_by_its_answer() -> None:
    """MLflow answers 503 then, and its client keeps nothing else of it."""
    notes: list[str] = []

    def call() -> None:
        try:
            raise ResponseError(ResponseError.SPECIFIC_ERROR.format(status_code=503))
        except ResponseError as error:
            raise MlflowException("API request failed") from error

    retry.begin(1e-9, notes.append)
    try:
        with pytest.raises(Outside, match="^the tracker has answered 503 for 1e-09 seconds; its log says why$"):
            retry.tried_again(call, "the tracker")()
    finally:
        retry.end()
    assert notes == ["the tracker answers 503: tried again, 1e-09 seconds at most"]

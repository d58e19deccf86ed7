"""The tracker's address: what MLflow would take for a folder is refused with the address that was meant."""

import os
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from denoise.errors import UserError
from search.__main__ import main
from search.tracking.address import is_local, local_uri, resolve_uri
from search.tracking.tracker import open_tracker

WRONG = {
    "127.0.0.1:5000": "http://127.0.0.1:5000",
    "localhost:5000/": "http://localhost:5000/",
    "localhost": "http://localhost",
    "tracker.example.org:8080/mlflow": "http://tracker.example.org:8080/mlflow",
    "http:/127.0.0.1:5000": "http://127.0.0.1:5000",
    "http:127.0.0.1:5000": "http://127.0.0.1:5000",
    "http:///x": None,
    "file:mlruns": "sqlite:///{here}/mlruns/mlflow.db",
    "file:///mlruns": "sqlite:////mlruns/mlflow.db",
    "mlruns": "sqlite:///{here}/mlruns/mlflow.db",
    "./runs/mlflow.db": "sqlite:///{here}/runs/mlflow.db",
    "/tmp/runs": "sqlite:////tmp/runs/mlflow.db",
    "sqlite:runs/mlflow.db": "sqlite:///{here}/runs/mlflow.db",
    "ftp://host/x": None,
    "s3://bucket": None,
    "redis://host": None,
}
RIGHT = [
    *(
        "http://127.0.0.1:5000",
        "https://mlflow.example.org/x",
        "http://me:pw@host",
        "sqlite:////a/b.db",
        "sqlite:///b.db",
    ),
    *("postgresql://me@host/base", "postgresql+psycopg2://me@host/base", "mysql+pymysql://h/b", "mssql+pyodbc://h/b"),
    *("databricks", "databricks://profile"),
]
VERBS = ["search", "train", "ui", "best", "report", "reproduce", "sample"]


@pytest.mark.parametrize("uri", WRONG)
@pytest.mark.parametrize("outside", [False, True])
def test_what_is_no_address_is_refused_with_the_one_that_was_meant(
    uri: str, outside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = "MLFLOW_TRACKING_URI=" if outside else "tracking.uri="
    if outside:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=rf"^{re.escape(key + uri)}: no address of a tracker; legal: ") as refused:
        resolve_uri(None if outside else uri, tmp_path)
    meant = re.search(rf"write {re.escape(key)}(\S+),", str(refused.value))
    assert meant is not None
    assert WRONG[uri] is None or meant[1] == WRONG[uri].format(here=tmp_path)  # type: ignore[union-attr]
    assert resolve_uri(meant[1], tmp_path) == meant[1], "what it says to write is an address"


@pytest.mark.parametrize("uri", RIGHT)
def test_addresses_that_mlflow_takes(uri: str, tmp_path: Path) -> None:
    assert resolve_uri(uri, tmp_path) == uri


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_makes_a_folder_of_it(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("search.workers.pool.WorkerPool.resize", lambda *args: None)
    assert main([verb, "tracking.uri=127.0.0.1:5000", f"store={tmp_path}/runs", "trainer.max_steps=1"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "write tracking.uri=http://127.0.0.1:5000," in err
    assert os.listdir(tmp_path) == []


def test_a_password_is_not_said(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        resolve_uri("ftp://me:secret@host/x", tmp_path)
    assert "secret" not in str(refused.value)


def test_an_empty_address_from_outside_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    assert resolve_uri(None, tmp_path) == local_uri(tmp_path)


def test_which_database_is_the_stores(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert is_local(local_uri(tmp_path), tmp_path) and is_local(local_uri(link), tmp_path)
    assert is_local(f"{local_uri(tmp_path)}?timeout=60", tmp_path)
    assert not is_local(f"sqlite:///{tmp_path}/other.db", tmp_path) and not is_local("http://host", tmp_path)


class Answers(BaseHTTPRequestHandler):
    """A server that is not MLflow's, or does not know who asks."""

    status, body = 200, b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "way"),
    [(401, "set MLFLOW_TRACKING_USERNAME"), (403, "set MLFLOW_TRACKING_USERNAME"), (404, "start"), (200, "start")],
)
def test_a_server_that_does_not_answer_as_mlflow_is_refused_with_the_way_on(
    status: int, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "status", status)
    monkeypatch.setattr(Answers, "body", b"<html>\nPlease log in</html>")
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match=way) as refused:
            open_tracker(f"http://me:hunter2@127.0.0.1:{server.server_port}", "any", tmp_path)
        server.shutdown()
    assert "hunter2" not in str(refused.value) and "\n" not in str(refused.value)

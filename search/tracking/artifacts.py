"""The files of runs: through MLflow's server, or by their place in a local store: STORE/artifacts/RUN/artifacts/NAME.

MLflow notes absolute addresses. Those are right until the store is moved, copied, or mounted under another name; so
they are only kept up for MLflow's own pages, and neither read nor written by.
"""

import errno
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from denoise.fault import Outside
from search.console.printed_commands import command, make
from search.runtime import retry

RUN_ID = re.compile(r"[0-9a-f]{32}")
HOLD = (  # what else in MLflow's tables is an address of a file
    *(("runs", "artifact_uri"), ("logged_models", "artifact_location"), ("trace_tags", "value")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)
WAIT_SECONDS = 60.0
FULL = (errno.ENOSPC, errno.EDQUOT)


def upload(client: Any, place: str, run_id: str, files: Mapping[str, bytes], folder: str | None = None) -> None:
    """Store files by name through MLflow's server at `place`. Errors: Outside where it answers and stores them not."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in files.items():
            with _naming(Path(temporary).parent):
                (path := Path(temporary) / name).parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        try:
            client.log_artifacts(run_id, temporary, folder)
        except Exception as error:
            if not (code := retry.status(error)):
                raise
            size = sum(map(len, files.values()))
            said = f"tracking.uri={place}: answers {code} to an upload of {size:,} bytes"
            raise Outside(f"{said}{_why(code)}") from error


def _why(code: int) -> str:
    """Why a server may store no file; MLflow's names no cause."""
    if code == 413:
        return "; a proxy before it takes nothing so large (nginx: client_max_body_size)"
    log = command(["mlflow"], "logs") if os.environ.get("ENGINE") else "its log"
    said = f"; the volume of its artifacts may be full, or cannot be written: {log} says which; free space there"
    return said if code in retry.NO_ROOM else ""


@contextmanager
def _naming(place: Path) -> Iterator[None]:
    """Name the place in what is raised within where a file cannot be written. Errors: Outside."""
    try:
        yield
    except OSError as error:
        way = "; free space there" if error.errno in FULL else ""
        raise Outside(f"{place}: cannot be written ({error.strerror or error}){way}") from error


class Files:
    """The artifacts of a store. `experiment`: its number in MLflow; `source`: a store that is only read.

    What is written goes to `store` alone.
    """

    def __init__(self, store: Path, experiment: str, source: Path | None = None) -> None:
        self.store, self.experiment, self.source = store, experiment, source

    def folder(self, run_id: str, store: Path | None = None) -> Path:
        """Where a run's files lie. Errors: ValueError where that is no id of a run."""
        if not RUN_ID.fullmatch(run_id):
            raise ValueError(f"{run_id}: no id of a run")
        home = (store or self.store) / "artifacts"
        of_experiment = home / self.experiment / run_id  # of one that was made in MLflow's pages
        return (of_experiment if of_experiment.exists() else home / run_id) / "artifacts"

    def find(self, run_id: str, name: str) -> Path | None:
        """The file of that name; None where the run has none."""
        for store in (self.store, self.source):
            if store is not None and RUN_ID.fullmatch(run_id):
                path = self.folder(run_id, store) / name
                if path.exists():
                    return path
        return None

    def write(self, run_id: str, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """Store files by name, each whole or not at all. Errors: Outside where the place cannot be written."""
        home = self.folder(run_id)
        place = home / folder if folder else home
        with _naming(self.store / "artifacts"):
            place.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                partial = home.with_name(f"{Path(name).name}.part")  # beside what MLflow's pages show
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    partial.write_bytes(content)
                    partial.replace(place / name)
                except OSError:
                    with suppress(OSError):
                        partial.unlink()  # a full disk is to have no more in it
                    raise

    def adopt(self, run_id: str, before: str) -> None:
        """Give a run the files of another whose record is lost; what it has itself stays."""
        if RUN_ID.fullmatch(before) and (old := self.folder(before)).is_dir():
            for path in old.rglob("*"):
                at = path.relative_to(old)
                if path.is_file() and not (self.folder(run_id) / at).exists():
                    self.write(run_id, {path.name: path.read_bytes()}, str(at.parent))


def place(files: Files | None, run_id: str, name: str) -> str:
    """Where a run's file is to be opened: its path, or with its run in MLflow."""
    path = files.find(run_id, name) if files is not None else None
    return str(path or f"{name}, an artifact of run {run_id} ({make('ui')})")


def readdress(database: Path, store: Path, experiment: str) -> None:
    """Let the addresses in a store's mlflow.db name this place, in one transaction; one question where they do."""
    root = (store / "artifacts").resolve().as_uri()
    with closing(sqlite3.connect(database, timeout=WAIT_SECONDS, isolation_level=None)) as opened:
        if not _elsewhere(opened, root, experiment):
            return
        opened.execute("BEGIN IMMEDIATE")  # and see what another process has left of it
        for number, old, new in _elsewhere(opened, root, experiment):
            opened.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, number))
            for table, column in HOLD if new == root or old.endswith(f"/artifacts/{number}") else ():
                _replace(opened, table, column, old, new)
        opened.execute("COMMIT")


def _elsewhere(opened: sqlite3.Connection, root: str, experiment: str) -> list[tuple[int, str, str]]:
    """The experiments whose files are said to lie elsewhere: number, address, the one that is to stand there."""
    asked = "SELECT experiment_id, name, artifact_location, (SELECT 1 FROM runs WHERE runs.experiment_id = "
    asked += "experiments.experiment_id LIMIT 1) FROM experiments WHERE substr(artifact_location || '/', 1, ?) != ?"
    found = []
    for number, name, location, has_runs in opened.execute(asked, (len(root) + 1, f"{root}/")).fetchall():
        if location.endswith("/artifacts") or name == experiment:
            found.append((number, location, root))
        elif location.endswith(f"/artifacts/{number}") or not has_runs:  # made in MLflow's pages, or its Default
            found.append((number, location, f"{root}/{number}"))
    return found


def _replace(opened: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    opened.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
        f"WHERE substr({column} || '/', 1, ?) = ? AND substr({column} || '/', 1, ?) != ?",
        (new, len(old) + 1, len(old) + 1, f"{old}/", len(new) + 1, f"{new}/"),
    )

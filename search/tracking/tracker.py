"""MLflow: one parent run a search, one child run a trial, written in batches. The only room that talks to it."""

import json
import logging
import math
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from denoise.errors import UserError
from denoise.fault import Outside, of_the_machine
from denoise.metrics import VAL_LOSS
from search.console.printed_commands import make, restore
from search.console.redact import hidden, hide, hide_of
from search.runtime import retry
from search.runtime.retry import Patient
from search.storages import sqlite
from search.storages.store_folder import check_store
from search.tracking import description, new_database
from search.tracking.address import is_local, resolve_uri
from search.tracking.address import local_uri as local_uri
from search.tracking.artifacts import Files, readdress, upload
from search.tracking.record import Record, check, of_run
from search.tracking.tags import Tag

FLUSH_SECONDS = 10.0  # a run's metrics reach the tracker at least this often
BATCH = 900  # MLflow takes 1,000 metrics a batch
DIGITS = 16  # of the sha256 of a data set that its column shows; MLflow takes 36 at most
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}  # stopped early is no error

record = of_run  # a run as a record


class Tracker:
    """An MLflow experiment. Errors: UserError where its store cannot be reached or written.

    new: whether one that is not there is made; else that is refused. files: the artifacts of a local store, which are
    read and written by their place in it; None where MLflow keeps them.
    """

    def __init__(self, uri: str | None, experiment: str, store: Path, new: bool = True) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError

        for name in ("mlflow", "alembic"):  # the import sets them anew
            logging.getLogger(name).setLevel(logging.CRITICAL)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # with its password
        self.uri, self.store = resolve_uri(uri, store), store
        self.local = self.uri.startswith("sqlite:")
        self.names: dict[str, str] = {}
        self.place = str(sqlite.file(self.uri) or hide(self.uri))  # where the runs lie, as it is said
        if not self.local:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        try:
            sqlite.write_ahead()
            if file := sqlite.file(self.uri):
                file.parent.mkdir(parents=True, exist_ok=True)
                sqlite.close(file)  # MLflow keeps connections, also to a file that was here before
            self.client: Any = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            self.experiment_id = retry.raced(self._experiment, experiment, new)
            self.client = Patient(self.client, "the tracker", {"log_artifacts": self.client.search_experiments})
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            reason = hide_of(self.uri, " ".join(str(error).split()))[:160]
            asks = re.search("error code 40[13]", reason)  # who one is
            way = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" if asks else "start that server"
            said = f"tracking.uri={hide(self.uri)}: cannot be used ({reason}); {way}, or leave out tracking.uri and "
            said += "MLFLOW_TRACKING_URI for the local store"
            if is_local(self.uri, store):
                said = f"store={store}: its mlflow.db cannot be used ({reason}); put back one that can, or give "
                said += "another folder with store=FOLDER"
            raise UserError(said) from error
        self.files = Files(store, self.experiment_id) if is_local(self.uri, store) else None

    def _experiment(self, name: str, new: bool) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None and not new:
            known = ", ".join(each.name for each in self.client.search_experiments() if each.name != "Default")
            raise UserError(f"tracking.experiment={name}: no such experiment in {self.place}; it has {known or 'none'}")
        if found is None:
            place = (self.store / "artifacts").resolve().as_uri() if self.local else None
            return str(self.client.create_experiment(name, artifact_location=place))
        if found.lifecycle_stage != "active":
            back = restore(self.uri, "experiment", found.experiment_id)
            raise UserError(
                f"tracking.experiment={name}: is deleted in MLflow; bring it back with {back}, or give another with "
                "tracking.experiment=NAME"
            )
        return str(found.experiment_id)

    def start(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any], parent: str | None = None) -> "Run":
        """Open a run, a child of `parent` where one is given."""
        every = dict(tags) | {Tag.SOURCE: "denoise-search"}
        every |= {Tag.PARENT: parent} if parent else {}
        every |= description.tag(every, self)
        tags = {key: hide(value) for key, value in every.items()}
        run = Run(self, self.client.create_run(self.experiment_id, tags=tags, run_name=hide(name)).info.run_id, tags)
        with run.resumable():
            run.params(params)
        return run

    def run(self, run_id: str) -> "Run":
        """Go on with a run that exists."""
        self.client.update_run(run_id, status="RUNNING")
        return Run(self, run_id, self.client.get_run(run_id).data.tags)

    def name(self, run_id: str) -> str:
        """What a run is called in lists; asked once."""
        if run_id not in self.names:
            self.names[run_id] = str(self.client.get_run(run_id).info.run_name)
        return self.names[run_id]

    def find(self, **tags: str) -> list[Any]:
        """The runs that carry all of these tags, the latest first."""
        return self._find(tags, "active")

    def deleted(self, **tags: str) -> list[Any]:
        """The same of runs that were deleted in MLflow, which keeps them."""
        return self._find(tags, "deleted")

    def open(self, parent: str) -> list[Any]:
        """The runs of a search that no one has closed."""
        return self._find({Tag.PARENT: parent}, "active", "attributes.status = 'RUNNING'")

    def _find(self, tags: Mapping[str, str], state: str, *more: str) -> list[Any]:
        from mlflow.entities import ViewType

        view = ViewType.from_string(f"{state}_only")
        quoted = {name: f'"{value}"' if "'" in value else f"'{value}'" for name, value in tags.items()}
        text = " and ".join([*(f"tags.`{name}` = {value}" for name, value in quoted.items()), *more])
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], text, view, 1000, order_by=["attributes.start_time DESC"], page_token=token
            )
            found += page
            if not (token := page.token):
                return found

    def begins(self, digits: str) -> list[Any]:
        """The runs whose id begins with these digits, the latest first."""
        return self._find({}, "active", f"attributes.run_id LIKE '{digits}%'")

    def searches(self) -> list[Any]:
        """The parent runs, the latest first."""
        return self.find(role="search")

    def records(self, parent: str) -> list[Record]:
        """The trials of a search."""
        return [record(run) for run in self.find(**{Tag.PARENT: parent, Tag.ROLE: "trial"})]

    def run_of(self, run_id: str) -> Any:
        """The run with this id, or the one that was written anew for it; None where there is neither."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id)
        except MlflowException:
            return next(iter(self.find(**{Tag.ANEW: run_id})), None)

    def active(self, run_id: str) -> bool:
        """Whether there is this run, and it is not deleted."""
        return (run := self.run_of(run_id)) is not None and run.info.lifecycle_stage == "active"

    def record(self, run_id: str) -> Record:
        """One run as a record. Errors: UserError where there is no such run, or it is no training."""
        run = self.run_of(run_id)
        if run is None:
            raise UserError(f"RUN={run_id}: no such run in {self.place}; {make('ui')} shows the runs")
        if Tag.OVERRIDES not in run.data.tags:
            raise UserError(f"RUN={run_id}: not a training (a search has many); {make('ui')} shows its trials")
        return check(record(run))

    def artifact(self, run_id: str, path: str, into: Path) -> Path:
        """Fetch an artifact. Errors: UserError where the run has none of that name, Outside for a file it has."""
        from mlflow.exceptions import MlflowException

        try:
            if self.files is None:
                return Path(self.client.download_artifacts(run_id, path, str(into)))
            if (found := self.files.find(run_id, path)) is None:
                raise FileNotFoundError(path)
            return Path(shutil.copyfile(found, into / found.name))
        except (MlflowException, OSError) as error:
            if retry.away(error) or of_the_machine(error):
                raise
            if self.files is None and self.has(run_id, path):  # MLflow's client names no cause
                raise Outside(f"RUN={run_id}: {path} cannot be fetched; {into} or a disk there may be full") from error
            raise UserError(f"RUN={run_id}: has no {path}; {make('reproduce', run=run_id)} trains it again") from error

    def has(self, run_id: str, path: str) -> bool:
        """Whether a run has this artifact, a file or a folder."""
        if self.files is not None:
            return self.files.find(run_id, path) is not None
        folder = str(Path(path).parent) if "/" in path else None
        return any(each.path.startswith(path) for each in self.client.list_artifacts(run_id, folder))


def open_tracker(uri: str | None, experiment: str, store: Path) -> Tracker:
    """Open the tracker and see that the store can be written; a refusal leaves nothing behind."""
    where = resolve_uri(uri, store)
    if where == local_uri(store):
        check_store(store)
    with new_database.opening(where):
        if is_local(where, store) and (database := store / "mlflow.db").exists():
            with suppress(sqlite3.DatabaseError):  # what no database is MLflow refuses
                readdress(database, store, experiment)
        tracker = Tracker(uri, experiment, store)
    check_store(store)
    return tracker


class Run:
    """An open run: metrics are gathered and written in batches."""

    def __init__(self, tracker: Tracker, run_id: str, tags: Mapping[str, str] | None = None) -> None:
        self.tracker, self.run_id = tracker, run_id
        self.tags, self.value = dict(tags or {}), math.nan  # the last val/loss
        self.waiting: list[Any] = []
        self.flushed_at = time.monotonic()

    def params(self, values: Mapping[str, Any]) -> None:
        """Write params."""
        from mlflow.entities import Param

        given = [Param(key, hide(str(value))) for key, value in values.items()]
        for i in range(0, len(given), 100):
            self.tracker.client.log_batch(self.run_id, params=given[i : i + 100])

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Take metrics; they are written at the latest with the next ones after some seconds."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.value = values.get(VAL_LOSS, self.value)
        self.waiting += [Metric(key, float(value), now, step) for key, value in values.items()]
        if time.monotonic() - self.flushed_at > FLUSH_SECONDS or len(self.waiting) >= BATCH:
            self.flush()

    def flush(self, tags: Mapping[str, str] | None = None) -> None:
        """Write what waits, and tags with it."""
        from mlflow.entities import RunTag

        given = [RunTag(key, hide(str(value))) for key, value in (tags or {}).items()]
        for i in range(0, max(len(self.waiting), 1), BATCH):
            batch = self.waiting[i : i + BATCH]
            if batch or given:
                self.tracker.client.log_batch(self.run_id, metrics=batch, tags=given)
            given = []
        self.waiting = []
        self.flushed_at = time.monotonic()

    def data(self, name: str, source: str, digest: str, profile: Mapping[str, Any]) -> None:
        """Say which data set the run was trained on; MLflow's pages have a column for it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        said = json.dumps({"sha256": digest, **profile})
        dataset = Dataset(hide(name), digest[:DIGITS], "local", json.dumps({"uri": hide(source)}), profile=said)
        given = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        retry.raced(self.tracker.client.log_inputs, self.run_id, datasets=[given])

    def artifacts(self, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """Store files by name."""
        files = {name: hidden(name, content) for name, content in files.items()}
        if self.tracker.files is not None:
            self.tracker.files.write(self.run_id, files, folder)
        else:
            upload(self.tracker.client, self.tracker.place, self.run_id, files, folder)

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Within, what ends this process closes the run as `interrupt` does."""
        try:
            yield
        except (KeyboardInterrupt, Exception):
            self.interrupt()
            raise

    def interrupt(self) -> None:
        """Close the run as KILLED with no outcome: it may be gone on with."""
        with retry.none(), suppress(Exception):  # where it cannot be closed now, it is when it is resumed
            self.flush()
            self.tracker.client.set_terminated(self.run_id, "KILLED")

    def end(self, outcome: str, tags: Mapping[str, str] | None = None) -> None:
        """Write what waits and close the run: complete and pruned FINISHED, failed FAILED."""
        self.tags |= {Tag.OUTCOME: outcome, **(tags or {})}
        self.flush({Tag.OUTCOME: outcome, **(tags or {}), **description.tag(self.tags, self.tracker, self)})
        self.tracker.client.set_terminated(self.run_id, STATUS[outcome])

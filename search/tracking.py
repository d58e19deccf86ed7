"""MLflow: one parent run a search, one child run a trial, written in batches. The only room that talks to it."""

import atexit
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from denoise.refusal import Refusal
from search import patience, sqlite, tables
from search.commands import make
from search.patience import Patient
from search.record import OUTCOMES, Record, check, tag
from search.shown import hidden, hide

FLUSH_SECONDS = 10.0  # a run's metrics reach the tracker at least this often
BATCH = 900  # MLflow takes 1,000 metrics a batch
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
MODEL = "denoise-search"


class Tracker:
    """An MLflow experiment. Errors: Refusal where its store cannot be reached or written."""

    def __init__(self, uri: str | None, experiment: str, store: Path) -> None:
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
        if not self.local:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        try:
            if file := sqlite.file(self.uri):
                file.parent.mkdir(parents=True, exist_ok=True)
            self.client: Any = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            if self.local:
                write_ahead(self.client._tracking_client.store.engine)
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                place = (store / "artifacts").resolve().as_uri() if self.local else None
                self.experiment_id = self.client.create_experiment(experiment, artifact_location=place)
            else:
                self.experiment_id = found.experiment_id
            self.client = Patient(self.client, "the tracker")
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            reason = hide(" ".join(str(error).split()))[:160]
            raise Refusal(
                f"tracking.uri={hide(self.uri)}: cannot be used ({reason}); start that server, or "
                "leave out tracking.uri and MLFLOW_TRACKING_URI for the local store"
            ) from error

    @property
    def place(self) -> str:
        """Where the runs lie, as it is said."""
        return str(sqlite.file(self.uri) or hide(self.uri))

    def start(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any], parent: str | None = None) -> "Run":
        """Open a run, a child of `parent` where one is given."""
        from mlflow.entities import Param

        every = dict(tags) | {"mlflow.source.name": "denoise-search"}
        every |= {"mlflow.parentRunId": parent} if parent else {}
        tags = {key: hide(value) for key, value in every.items()}
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=hide(name))
        for i in range(0, len(params), 100):
            given = [Param(key, hide(str(value))) for key, value in list(params.items())[i : i + 100]]
            self.client.log_batch(run.info.run_id, params=given)
        return Run(self, run.info.run_id)

    def run(self, run_id: str) -> "Run":
        """Go on with a run that exists."""
        self.client.update_run(run_id, status="RUNNING")
        return Run(self, run_id)

    def find(self, **tags: str) -> list[Any]:
        """The runs that carry all of these tags, the latest first."""
        quoted = {name: f'"{value}"' if "'" in value else f"'{value}'" for name, value in tags.items()}
        text = " and ".join(f"tags.`{name}` = {value}" for name, value in quoted.items())
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], text, max_results=1000, order_by=["attributes.start_time DESC"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def searches(self) -> list[Any]:
        """The parent runs, the latest first."""
        return self.find(role="search")

    def records(self, parent: str) -> list[Record]:
        """The trials of a search."""
        return [record(run) for run in self.find(**{"mlflow.parentRunId": parent, "role": "trial"})]

    def record(self, run_id: str) -> Record:
        """One run as a record. Errors: Refusal where there is no such run, or it is no training."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            raise Refusal(f"RUN={run_id}: no such run in {self.place}; {make('ui')} shows the runs") from error
        if "overrides" not in run.data.tags:
            raise Refusal(f"RUN={run_id}: not a training (a search has many); {make('ui')} shows its trials")
        return check(record(run))

    def artifact(self, run_id: str, path: str, into: Path) -> Path:
        """Fetch an artifact. Errors: Refusal where the run has none of that name."""
        from mlflow.exceptions import MlflowException

        try:
            return Path(self.client.download_artifacts(run_id, path, str(into)))
        except (MlflowException, OSError) as error:
            raise Refusal(f"RUN={run_id}: has no {path}; {make('reproduce', run=run_id)} trains it again") from error

    def champion(self, run_id: str) -> str:
        """Register a run's weights as the next version of the model, with the alias champion; returns the version.

        A run that is the champion already stays the version that it is.
        """
        from mlflow.exceptions import MlflowException

        if self.local:
            atexit.register(self.client._get_registry_client().store.engine.dispose)  # as in write_ahead
        try:
            self.client.create_registered_model(MODEL)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            with suppress(MlflowException):  # the model without a champion: a kill came between
                champion = self.client.get_model_version_by_alias(MODEL, "champion")
                if champion.run_id == run_id:
                    return str(champion.version)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/weights"
        version = self.client.create_model_version(MODEL, source=source, run_id=run_id).version
        self.client.set_registered_model_alias(MODEL, "champion", str(version))
        return str(version)


def open_tracker(uri: str | None, experiment: str, store: Path) -> Tracker:
    """Open the tracker and see that the store can be written; a refusal leaves nothing behind."""
    where = resolve_uri(uri, store)
    if where == local_uri(store):
        check_store(store)
    with tables.opening(where):
        tracker = Tracker(uri, experiment, store)
    check_store(store)
    return tracker


def check_store(store: Path) -> None:
    """Make the folder of the store, and refuse one that cannot be written."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        probe = store / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Refusal(
            f"store={store}: cannot be written ({error.strerror}); give another folder with store=FOLDER"
        ) from error


class Run:
    """An open run: metrics are gathered and written in batches."""

    def __init__(self, tracker: Tracker, run_id: str) -> None:
        self.tracker, self.run_id = tracker, run_id
        self.waiting: list[Any] = []
        self.flushed_at = time.monotonic()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Take metrics; they are written at the latest with the next ones after some seconds."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
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

    def artifacts(self, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """Store files by name."""
        import tempfile

        with tempfile.TemporaryDirectory() as temporary:
            for name, content in files.items():
                (Path(temporary) / name).write_bytes(hidden(name, content))
            self.tracker.client.log_artifacts(self.run_id, temporary, folder)

    def interrupt(self) -> None:
        """Close the run as KILLED with no outcome: it may be gone on with."""
        with patience.none(), suppress(Exception):  # it is closed by whoever goes on with it, where it cannot be now
            self.flush()
            self.tracker.client.set_terminated(self.run_id, "KILLED")

    def end(self, outcome: str, tags: Mapping[str, str] | None = None) -> None:
        """Write what waits and close the run: complete FINISHED, pruned KILLED, failed FAILED."""
        self.flush({"outcome": outcome, **(tags or {})})
        self.tracker.client.set_terminated(self.run_id, STATUS[outcome])


def write_ahead(engine: Any) -> None:
    """SQLite with a write-ahead log: a kill loses nothing that was committed, and a commit waits for no disk."""
    from sqlalchemy import event

    def pragmas(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    event.listen(engine, "connect", pragmas)
    engine.dispose()
    atexit.register(engine.dispose)  # the last connection that is closed puts the log into the database


def resolve_uri(uri: str | None, store: Path) -> str:
    """The tracker's address: the config's, else MLFLOW_TRACKING_URI, else SQLite in the store."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or local_uri(store)


def local_uri(store: Path) -> str:
    """SQLite in the store, by its absolute path."""
    return sqlite.url(store / "mlflow.db")


def record(run: Any) -> Record:
    """Read a run of MLflow as a record."""
    tags, metrics = dict(run.data.tags), dict(run.data.metrics)
    return Record(
        number=tag(run.info.run_id, tags, "trial", int),
        run_id=run.info.run_id,
        outcome=tag(run.info.run_id, tags, "outcome", OUTCOMES, "running"),
        step=tag(run.info.run_id, tags, "step", int, 0),
        overrides=_overrides(tags.get("overrides", "[]")),
        value=metrics.get("val/loss"),
        failure=tags.get("failure", ""),
        metrics=metrics,
        tags=tags,
    )


def _overrides(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def params(choices: Mapping[str, str | None], cfg: Any, kinds: Sequence[str], space_of: Any) -> dict[str, Any]:
    """The params of a training by config path: each kind's option, its searched parameters, and what else sets it."""
    found: dict[str, Any] = {}
    for kind in kinds:
        option = choices[kind]
        found[kind] = option
        for name in space_of(kind, option):
            found[f"{kind}.{option}.{name}"] = cfg[kind].get(name)
    for group in ("data", "model"):
        found[group] = choices[group]
    found |= {f"model.{name}": value for name, value in cfg.model.items() if name not in ("_target_", "limits")}
    for path in ("seed", "placement", "dropout", "zero_output"):
        found[path] = cfg[path]
    found |= {f"trainer.{name}": cfg.trainer[name] for name in ("max_steps", "accelerator", "precision")}
    found["data.batch_size"] = cfg.data.batch_size
    for place, option in choices.items():
        if "@" in place and option:
            kind, _, path = place.partition("@")
            found[path] = option  # MLflow takes no @ in a name
            found |= {
                f"{path}.{option}.{name}": OmegaConf.select(cfg, f"{path}.{name}") for name in space_of(kind, option)
            }
    return found

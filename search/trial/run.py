"""One tracked training: a trial of a search, a training of its own, or one that is done again."""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol

from omegaconf import DictConfig
from safetensors.torch import save

from denoise.config import catalog
from denoise.config.compose import Composed, as_yaml
from denoise.errors import UserError
from denoise.fault import Outside, blamed, line, of_memory, outside
from denoise.inference.profile import profile
from denoise.metrics import SAMPLES_PER_SECOND, VAL_LOSS
from denoise.pictures.grid import webp
from denoise.training import train
from search.runtime import watchdog
from search.tracking.tags import SAMPLES, Tag
from search.tracking.tracker import Run, Tracker
from search.trial import open_runs, pretrained, provenance
from search.trial.config_hash import config_sha256, plain_config
from search.trial.machine import monitored
from search.trial.params import params

P = ParamSpec("P")
MOST_LETTERS = 100  # of a name in a list
TESTED = "test.safetensors"  # the losses of the test triples, and the image of each
Stop = Callable[[int, float, dict[str, float]], bool]  # at a step, with its objective and all metrics until then


class ProgressDisplay(Protocol):
    """Who shows a training while it runs."""

    def progress(self, step: int, max_steps: int, metrics: dict[str, float]) -> None: ...


class Rejected(Exception):
    """A config that is not trained: outcome pruned (it costs too much) or failed (it is dead), and why."""

    def __init__(self, outcome: str, kind: str, message: str, metrics: dict[str, float]) -> None:
        super().__init__(message)
        self.outcome, self.kind, self.metrics = outcome, kind, metrics


@dataclass
class TrialResult:
    """How a tracked training ended; `result` is None where it raised."""

    run_id: str
    outcome: str
    step: int
    value: float | None
    failure: str
    kind: str
    result: train.Result | None
    metrics: dict[str, float] = field(default_factory=dict)
    weights_at: str = ""  # what names its weights at some of its evaluations, as the run's tag has it

    @property
    def samples_per_second(self) -> float | None:
        return self.metrics.get(SAMPLES_PER_SECOND)


class MetricsForwarder:
    """Hand a training's metrics to its MLflow run and to the screen, its objective to whoever may stop it."""

    def __init__(self, run: Run, screen: ProgressDisplay, max_steps: int, stop: Stop | None) -> None:
        self.run, self.screen, self.max_steps, self.stop = run, screen, max_steps, stop
        self.metrics: dict[str, float] = {}

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics |= metrics
        with outside("writing to the tracker"):
            self.run.metrics(step, metrics)
        self.screen.progress(step, self.max_steps, metrics)

    def on_objective(self, step: int, value: float) -> bool:
        with outside("asking the other trials"):
            return self.stop is not None and self.stop(step, value, self.metrics)

    def on_save(self, step: int) -> None:
        with outside("writing to the tracker"):
            self.run.flush()

    def on_step(self) -> None:
        watchdog.voice.beat()


def run_name(what: str, differs: str = "") -> str:
    """What a run is called in lists: 001 muon lr 0.01. A long one ends with a whole word and ..."""
    whole = f"{what} {differs}".strip()
    if len(whole) <= MOST_LETTERS:
        return whole
    cut = whole[: MOST_LETTERS - 3]
    words = cut.rpartition(" ")[0].rstrip(",")
    return f"{words if len(words) > MOST_LETTERS // 2 else cut}..."


def open_run(
    tracker: Tracker,
    composed: Composed,
    overrides: Sequence[str],
    role: str,
    name: str,
    parent: str | None = None,
    **tags: str,
) -> Run:
    """Start the MLflow run of a training: its searched values as params, what reproduces it as tags."""
    from denoise.training.train import data_sha256

    if role in open_runs.ROLES:
        open_runs.close(tracker)
        tags |= open_runs.mark()
    every = {
        Tag.ROLE: role,
        Tag.OVERRIDES: json.dumps(list(overrides)),
        Tag.CONFIG_SHA256: tags.get(Tag.CONFIG_SHA256) or config_sha256(composed),
        Tag.DATA_SHA256: data_sha256(composed.cfg),
        Tag.MACHINE: json.dumps(provenance.describe()),
        Tag.CODE: provenance.code(),
        **tags,
    }
    given = params(
        composed.choices, composed.cfg, catalog.KINDS, lambda kind, option: catalog.entry(kind, option).space
    )
    run = tracker.start(name, every, given, parent)
    with run.resumable():
        data, root = str(composed.choices["data"]), composed.cfg.data.get("root") or composed.cfg.data.get("path")
        run.data(data, str(root or data), every[Tag.DATA_SHA256], profile(composed.cfg))
    return run


def closed_if_interrupted(
    training: Callable[Concatenate[Composed, Run, P], TrialResult],
) -> Callable[Concatenate[Composed, Run, P], TrialResult]:
    """A training whose run is closed as KILLED wherever an end comes from outside: before, in, or after its steps."""

    @wraps(training)
    def closing(composed: Composed, run: Run, *args: P.args, **more: P.kwargs) -> TrialResult:
        with run.resumable():
            return training(composed, run, *args, **more)

    return closing


@closed_if_interrupted
def perform(
    composed: Composed,
    run: Run,
    screen: ProgressDisplay,
    stop: Stop | None = None,
    checkpoint: Path | None = None,
    stop_at: int | None = None,
    keep: Callable[[train.Result], None] | None = None,
    admit: Callable[[DictConfig, Any], None] | None = None,
) -> TrialResult:
    """Train a config into an open run and close it: metrics, samples, config, outcome.

    `keep` is given a complete result before the run is closed: a run that is closed has been kept. `admit` is given
    the config and the prepared module of a training that has not begun, and raises Rejected where it is not to.

    A training that diverges, runs out of memory or raises is a failed run, never an error of the caller. What fails
    around it says nothing of the config: the run stays as it is, to be resumed. Errors: Outside.
    """
    cfg = composed.cfg
    forwarder = MetricsForwarder(run, screen, cfg.trainer.max_steps, stop)
    files = _config_file(composed)
    try:
        with outside("reading from the tracker"):
            resolved = pretrained.resolve(cfg, run.tracker)
        with blamed():
            module = train.prepare(resolved)
        if admit is not None and (checkpoint is None or not checkpoint.exists()):
            with blamed():
                admit(resolved, module)
        with monitored(run, cfg.tracking.system_metrics):
            result = train.fit(resolved, module, forwarder, checkpoint, stop_at)
    except Rejected as rejected:
        return end_rejected(run, composed, rejected)
    except Outside:
        raise
    except UserError as error:
        return _failed(run, files, "refused", str(error))
    except Exception as error:
        return _failed(run, files, "out_of_memory" if of_memory(error) else "error", line(error, 500))
    return _ended(run, files, result, keep)


@outside("writing to the tracker")
def _ended(
    run: Run, files: dict[str, bytes], result: train.Result, keep: Callable[[train.Result], None] | None
) -> TrialResult:
    if result.health:
        files |= {"health.svg": result.health, "health.json": result.layers}
    tags: dict[str, str] = {}
    if result.sites:
        files["sites.txt"] = result.sites.encode()
    if result.start:
        files["initializer.txt"] = "\n".join(report.text() for report in result.start).encode()
        read = [report.sha256 for report in result.start if report.sha256]
        tags = {Tag.INITIALIZER_SHA256: ",".join(read)} if read else {}
    if result.weights_at:
        tags[Tag.WEIGHTS_AT] = json.dumps(result.weights_at)
    if result.failure is not None:
        return _failed(run, files, result.failure.kind, result.failure.message, result)
    outcome = "pruned" if result.outcome == "stopped" else "complete"
    if outcome == "complete":
        if result.samples:
            files |= {"samples.png": result.samples, **by_step(SAMPLES, result.step, result.samples)}
            tags[Tag.IMAGES] = "True"
        if result.tested:
            files[TESTED] = save(result.tested)
        if keep is not None:
            keep(result)
    run.artifacts(files)
    run.end(outcome, {Tag.STEP: str(result.step), Tag.WEIGHTS_SHA256: result.weights_sha256, **tags})
    value, names = result.metrics.get(VAL_LOSS), tags.get(Tag.WEIGHTS_AT, "")
    return TrialResult(run.run_id, outcome, result.step, value, "", "", result, result.metrics, names)


def by_step(key: str, step: int, png: bytes) -> dict[str, bytes]:
    """A picture under the names that MLflow's grid of images reads, as MlflowClient.log_image gives them."""
    name = f"images/{key}+step+{step}+timestamp+{time.time_ns() // 1_000_000}+{uuid.uuid4()}"
    return {f"{name}.png": png, f"{name}+compressed.webp": webp(png)}


@outside("writing to the tracker")
def end_rejected(run: Run, composed: Composed, rejected: Rejected) -> TrialResult:
    """Close the run of a config that is not trained, or no further."""
    run.metrics(0, rejected.metrics)
    run.artifacts(_config_file(composed))
    tags: dict[str, str] = {Tag.STEP: "0", Tag.FAILURE: f"{rejected.kind}: {rejected}", Tag.FAILURE_KIND: rejected.kind}
    run.end(rejected.outcome, tags)
    return TrialResult(run.run_id, rejected.outcome, 0, None, str(rejected), rejected.kind, None, rejected.metrics)


@outside("writing to the tracker")
def _failed(
    run: Run, files: dict[str, bytes], kind: str, message: str, result: train.Result | None = None
) -> TrialResult:
    step = result.failure.step if result is not None and result.failure is not None else 0
    tags: dict[str, str] = {Tag.STEP: str(step), Tag.FAILURE: f"{kind}: {message}", Tag.FAILURE_KIND: kind}
    if result is not None and result.failure is not None and result.failure.layer:
        tags[Tag.FAILURE_LAYER] = result.failure.layer
    if result is not None and result.weights_at:
        tags[Tag.WEIGHTS_AT] = json.dumps(result.weights_at)
    run.artifacts(files)
    run.end("failed", tags)
    value = result.metrics.get(VAL_LOSS) if result is not None else None
    metrics = result.metrics if result is not None else {}
    return TrialResult(run.run_id, "failed", step, value, message, kind, result, metrics, tags.get(Tag.WEIGHTS_AT, ""))


def _config_file(composed: Composed) -> dict[str, bytes]:
    return {"config.yaml": as_yaml(plain_config(composed)).encode()}

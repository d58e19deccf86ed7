"""One tracked training: a trial of a search, a training of its own, or one that is done again."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from denoise import catalog, train
from denoise.config import Composed, as_yaml
from denoise.refusal import Refusal
from search import machine, pretrained, tracking
from search.space import NOT_THE_TRIALS
from search.tracking import Run, Tracker


class Screen(Protocol):
    """Who shows a training while it runs."""

    def progress(self, step: int, max_steps: int, metrics: dict[str, float]) -> None: ...


@dataclass
class Trained:
    """What a tracked training came to; `result` is None where it raised."""

    run_id: str
    outcome: str
    step: int
    value: float | None
    failure: str
    kind: str
    result: train.Result | None


class Follower:
    """Hand a training's metrics to its MLflow run and to the screen, its objective to whoever may stop it."""

    def __init__(self, run: Run, screen: Screen, max_steps: int, stop: Callable[[int, float], bool] | None) -> None:
        self.run, self.screen, self.max_steps, self.stop = run, screen, max_steps, stop

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.run.metrics(step, metrics)
        self.screen.progress(step, self.max_steps, metrics)

    def on_objective(self, step: int, value: float) -> bool:
        return self.stop is not None and self.stop(step, value)

    def on_save(self, step: int) -> None:
        self.run.flush()


def plain_config(composed: Composed) -> dict[str, Any]:
    """The resolved config of a training, without what no training depends on."""
    content = OmegaConf.to_container(composed.cfg, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key not in NOT_THE_TRIALS}


def config_sha256(composed: Composed) -> str:
    """sha256 of the resolved config: the same hash, the same training."""
    return hashlib.sha256(json.dumps(plain_config(composed), sort_keys=True).encode()).hexdigest()


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
    from denoise.train import data_sha256

    every = {
        "role": role,
        "overrides": json.dumps(list(overrides)),
        "config_sha256": config_sha256(composed),
        "data_sha256": data_sha256(composed.cfg),
        "machine": json.dumps(machine.describe()),
        **tags,
    }
    params = tracking.params(
        composed.choices, composed.cfg, catalog.KINDS, lambda kind, option: catalog.entry(kind, option).space
    )
    return tracker.start(name, every, params, parent)


def perform(
    composed: Composed,
    run: Run,
    screen: Screen,
    stop: Callable[[int, float], bool] | None = None,
    checkpoint: Path | None = None,
    stop_at: int | None = None,
    keep: Callable[[train.Result], None] | None = None,
) -> Trained:
    """Train a config into an open run and close it: metrics, samples, config, outcome.

    `keep` is given a complete result before the run is closed: a run that is closed has been kept.

    A training that diverges, runs out of memory or raises is a failed run, never an error of the caller.
    """
    cfg = composed.cfg
    follower = Follower(run, screen, cfg.trainer.max_steps, stop)
    files = {"config.yaml": as_yaml(plain_config(composed)).encode()}
    try:
        result = train.train(pretrained.resolve(cfg, run.tracker), follower, checkpoint, stop_at)
    except KeyboardInterrupt:
        run.interrupt()
        raise
    except Refusal as error:
        return _failed(run, files, "refused", str(error))
    except Exception as error:
        return _failed(run, files, "error", f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
    if result.health:
        files["health.svg"] = result.health
    tags: dict[str, str] = {}
    if result.start:
        files["initializer.txt"] = "\n".join(report.text() for report in result.start).encode()
        read = [report.sha256 for report in result.start if report.sha256]
        tags = {"initializer_sha256": ",".join(read)} if read else {}
    if result.failure is not None:
        return _failed(run, files, result.failure.kind, result.failure.message, result)
    outcome = "pruned" if result.outcome == "stopped" else "complete"
    if outcome == "complete":
        files["samples.png"] = result.samples
        if keep is not None:
            keep(result)
    run.artifacts(files)
    run.end(outcome, {"step": str(result.step), "weights_sha256": result.weights_sha256, **tags})
    return Trained(run.run_id, outcome, result.step, result.metrics.get("val/loss"), "", "", result)


def _failed(run: Run, files: dict[str, bytes], kind: str, message: str, result: train.Result | None = None) -> Trained:
    step = result.failure.step if result is not None and result.failure is not None else 0
    tags = {"step": str(step), "failure": f"{kind}: {message}", "failure_kind": kind}
    if result is not None and result.failure is not None and result.failure.layer:
        tags["failure_layer"] = result.failure.layer
    run.artifacts(files)
    run.end("failed", tags)
    value = result.metrics.get("val/loss") if result is not None else None
    return Trained(run.run_id, "failed", step, value, message, kind, result)

"""The registered model of a question: one name for data, backbone and ruler, whose champion only a better one replaces.

Its folder is that of a run's weights: config and numbers, nothing pickled. denoise.load and mlflow.pyfunc read it.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import OmegaConf

from denoise.config.compose import Composed
from denoise.errors import UserError
from denoise.inference import mlflow_model
from denoise.inference.load import WEIGHTS
from denoise.inference.profile import profile
from denoise.metrics import TEST_LOSS, VAL_LOSS
from search.tracking import description
from search.tracking.record import Record
from search.tracking.tags import Tag
from search.tracking.tracker import Run, Tracker

CHAMPION = "champion"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's words for: no such model, alias or run
MEASURE = ("val_samples",)  # of a trainer: how many triples val/loss is the mean of
SEARCH, CONFIRMED = "search", "confirmed"  # tags of a version, beside its metrics


@dataclass(frozen=True)
class Candidate:
    """What a search ended with: its run, what that is worth by metric, in words, and the runs that confirm it by seed.

    search: the search's run; without `confirming` it is a trial of one seed.
    """

    record: Record
    search: str
    worth: Mapping[str, float]
    says: str
    confirming: Mapping[int, str] = field(default_factory=dict)

    @property
    def tags(self) -> dict[str, str]:
        """What a version is known by."""
        numbers = {name: repr(value) for name, value in self.worth.items()}
        return {SEARCH: self.search, CONFIRMED: str(len(self.confirming)), **numbers}


def name(composed: Composed, data_sha256: str, test_samples: int) -> str:
    """denoise-DATA-MODEL-DIGEST: what has one name is measured on the same triples of the same images by one ruler."""
    cfg, chosen = composed.cfg, composed.choices
    model = {key: cfg.model.get(key) for key in ("_target_", "path", "class_conditional")}
    asked = {"data": data_sha256, "model": model, "test_samples": test_samples}
    asked |= {"ruler": OmegaConf.to_container(cfg.ruler, resolve=True)}
    asked |= {key: cfg.trainer[key] for key in MEASURE}
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:6]
    return f"denoise-{chosen['data']}-{chosen['model']}-{digest}"


def better(new: Candidate, old: Mapping[str, str]) -> bool:
    """Whether a candidate replaces a champion with these tags.

    The same search: its answer of today. Else a lower mean test loss, where fresh seeds have judged both; a lower
    val/loss, where the champion was not confirmed. One seed, the best of many, replaces no confirmed one.
    """
    if old.get(SEARCH) == new.search:
        return True
    if old.get(CONFIRMED, "0") == "0":
        return new.worth.get(VAL_LOSS, math.inf) < _number(old, VAL_LOSS)
    return bool(new.confirming) and new.worth.get(TEST_LOSS, math.inf) < _number(old, TEST_LOSS)


@contextmanager
def absent() -> Iterator[None]:
    """Within, MLflow may answer that a model, an alias or a run is not there; what else it says is raised."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise


def champion(tracker: Tracker, model: str) -> str:
    """The run that is the champion of a model; empty where there is none."""
    with absent():
        return str(tracker.client.get_model_version_by_alias(model, CHAMPION).run_id)
    return ""


def crown(tracker: Tracker, model: str, new: Candidate, composed: Composed, weights: bytes = b"") -> str:
    """Register a run's weights as the champion of a model; why not, in one line, where the one before stays.

    composed: the run's config; weights: the file, of which tracking.graph makes a graph too. A run that is the champion
    already stays the version that it is. A line also where there is no graph.
    """
    from mlflow.exceptions import MlflowException

    client, run_id, old = tracker.client, new.record.run_id, None
    try:
        client.create_registered_model(model, description=_about(composed))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        with absent():  # the model without a champion: a kill came between
            old = client.get_model_version_by_alias(model, CHAMPION)
    if old is not None and old.run_id != run_id and tracker.active(old.run_id) and not better(new, old.tags):
        return _stays(model, old, new)
    digest = new.record.tags.get(Tag.WEIGHTS_SHA256, "")
    files = mlflow_model.files(new.record.overrides, profile(composed.cfg), digest, run_id)
    note = ""
    if composed.cfg.tracking.graph and weights:
        try:
            files |= _graph(files, weights)
        except UserError as error:
            note = str(error)
    if not all(tracker.has(run_id, f"weights/{each}") for each in files):
        Run(tracker, run_id).artifacts(files, "weights")
    said = _describe(tracker, model, new)
    if old is not None and old.run_id == run_id:
        client.update_model_version(model, old.version, said)
        for key, value in new.tags.items():
            client.set_model_version_tag(model, old.version, key, value)
        return note
    source = f"{client.get_run(run_id).info.artifact_uri}/weights"
    made = client.create_model_version(model, source=source, run_id=run_id, tags=new.tags, description=said)
    client.set_registered_model_alias(model, CHAMPION, str(made.version))
    return note


def _graph(files: Mapping[str, bytes], weights: bytes) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        for name, content in {**files, WEIGHTS: weights}.items():
            (Path(folder) / name).write_bytes(content)
        return mlflow_model.graph(Path(folder))


def _stays(model: str, old: Any, new: Candidate) -> str:
    measured = TEST_LOSS if old.tags.get(CONFIRMED, "0") != "0" else VAL_LOSS
    value = new.worth.get(measured)
    here = f"{value:.6g} here" if value is not None else "here it is not confirmed on fresh seeds"
    return (
        f"models:/{model}@{CHAMPION} stays version {old.version}, run {old.run_id}: "
        f"{measured} {_number(old.tags, measured):.6g} there, {here}"
    )


def _about(composed: Composed) -> str:
    cfg, chosen = composed.cfg, composed.choices
    return (
        f"Denoisers of {chosen['data']} with the backbone {chosen['model']}, measured by val/loss on "
        f"{cfg.trainer.val_samples} fixed triples. `champion` is the best so far: it is replaced by what is better on "
        "the same triples, or by a later answer of the same search."
    )


def _describe(tracker: Tracker, model: str, new: Candidate) -> str:
    """The description of a version: what it is worth, which runs say so, how it is loaded."""
    rows = [
        f"| {key}&emsp; | {value:.6g} |" for key, value in new.worth.items()
    ]  # the page has no lines between columns
    search = description.link(tracker, new.search, tracker.name(new.search))
    runs = f"Run {description.link(tracker, new.record.run_id, new.record.run_id)} of search {search}"
    seeds = [description.link(tracker, run, f"seed {seed}") for seed, run in sorted(new.confirming.items())]
    use = f'import denoise\n\nmodel = denoise.load("models:/{model}@{CHAMPION}")\nimages = denoise.sample(model, 16)'
    blocks = [
        description.code(new.says),
        "\n".join(["| metric | value |", "|---|---|", *rows]),
        runs + (f"; confirmed on fresh seeds: {', '.join(seeds)}" if seeds else "; one seed, not confirmed"),
        f"```python\n{use}\n```",
        f"Train it again: {description.code(description.again(new.record.run_id))}",
    ]
    return "\n\n".join(blocks)


def _number(tags: Mapping[str, str], key: str) -> float:
    try:
        return float(tags[key])
    except (KeyError, ValueError):
        return math.inf

"""Weights of an earlier run, fetched before a training that starts from them: initializer.run becomes a path."""

import os
import re
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from denoise.errors import UserError
from search.console.printed_commands import make, named
from search.storages import sqlite
from search.storages.store_folder import store_of
from search.tracking.address import resolve_uri
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker


def resolve(cfg: DictConfig, tracker: Tracker | None = None) -> DictConfig:
    """Give every initializer that names a run the file of its weights; without one, cfg as it is.

    What is recorded of a training keeps the run's id, so that it can be done again wherever the tracker is. The file
    is fetched once into the store and is the recorded one by its hash. Errors: UserError.
    """
    if not _nodes(cfg):
        return cfg
    tracker = tracker or _existing(cfg)
    found: DictConfig = cfg.copy()
    for node in _nodes(found):
        if node.get("path") is not None:
            raise UserError(f"initializer.path={node.path} and initializer.run={node.run}: give one of them")
        node.path, node.run = str(fetch(tracker, str(node.run))), None
    return found


def fetch(tracker: Tracker, run_id: str) -> Path:
    """Fetch a run's weights into the store, if they are not there yet. Errors: UserError."""

    where = f"initializer.run={run_id}"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id):
        raise UserError(f"{where}: not the id of a run; {make('ui')} shows the runs")
    try:
        recorded = tracker.record(run_id)
    except UserError as error:
        raise UserError(f"{where}: {str(error).partition(': ')[2]}") from error
    path = tracker.store / "pretrained" / f"{run_id}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
            try:
                fetched = tracker.artifact(run_id, "weights/weights.safetensors", Path(temporary))
            except UserError as error:
                raise UserError(
                    f"{where}: kept no weights (a search keeps only its best trial's); train it with {named('train')}, "
                    "and name that run"
                ) from error
            os.replace(fetched, path)
    from search.tracking import weights  # with torch, which takes a second to import

    if not weights.are(path.read_bytes(), recorded.tags.get(Tag.WEIGHTS_SHA256, "")):
        path.unlink(missing_ok=True)
        raise UserError(
            f"{where}: its weights are not those that it recorded; {make('reproduce', run=run_id)} trains it again and "
            "puts them back"
        )
    return path


def _nodes(cfg: DictConfig) -> list[DictConfig]:
    """The initializers, the main one and those of parts, that name a run."""
    every = [cfg.initializer, *(part.get("initializer") for part in cfg.parts.values())]
    return [node for node in every if node is not None and node.get("run") is not None]


def _existing(cfg: DictConfig) -> Tracker:
    store = store_of(cfg)
    uri = resolve_uri(cfg.tracking.uri, store)
    if (file := sqlite.file(uri)) and not file.exists():
        run = _nodes(cfg)[0].run
        raise UserError(f"initializer.run={run}: there are no runs in store={cfg.store}; give store=FOLDER")
    return Tracker(uri, cfg.tracking.experiment, store, new=False)

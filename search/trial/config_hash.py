"""What names a training: the sha256 of its resolved config and of the user's own code in it."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from denoise.config import catalog, trust
from denoise.config.compose import Composed
from denoise.config.moved import as_first_named
from search.space.search_space import NOT_THE_TRIALS

# What was not always there: a training that does without it keeps its name
ADDED = (
    ("trainer", "test_samples", 0),
    ("trainer", "accumulate", 1),
    ("solver", "guidance", 1.0),
    ("model", "class_dropout", 0.0),
    ("model", "parts", None),
)
RULER = "denoise.denoiser.edm.LogNormal"  # before there was one, an EDM was measured by its own weight and levels


def plain_config(composed: Composed) -> dict[str, Any]:
    """The resolved config of a training, without what no training depends on."""
    content = OmegaConf.to_container(composed.cfg, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key not in NOT_THE_TRIALS}


def named_by(composed: Composed) -> dict[str, Any]:
    """What of a config names a training: without what its files declare as legal, and without what was added later."""
    content = bare(plain_config(composed))
    content["data"].pop("memory", None)  # where images lie, which no training depends on
    for group, name, absent in ADDED:
        if name in content[group] and content[group][name] == absent:
            del content[group][name]
    if content["ruler"] == content["denoiser"] | {"_target_": RULER}:
        del content["ruler"]
    return as_first_named(content)


def config_sha256(composed: Composed) -> str:
    """sha256 of the resolved config, of the user's code and the model's files: the same hash, the same training."""
    content = named_by(composed)
    if code := own_code(content):
        content["own_code"] = code
    if files := _files(content):
        content["files"] = files
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def own_code(content: Mapping[str, Any], *more: Any) -> dict[str, str]:
    """sha256 of the user's own code in a config: behind each `_target_`, and behind what gives a model its data."""
    return trust.own_code([content, *more, {"_target_": content["model"].get("data")}])


def _files(content: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of the files that a model's or a denoiser's `path` names; of weights only where they are kept."""
    found = {}
    for group in ("model", "denoiser"):
        if path := content[group].get("path"):
            kinds = (".json", ".safetensors", ".bin") if content[group].get("weights") == "keep" else (".json",)
            digest = hashlib.sha256()
            for file in described(Path(str(path)).expanduser()):
                if file.suffix in kinds:
                    digest.update(_sha256(file, file.stat().st_mtime_ns, file.stat().st_size).encode())
            found[group] = digest.hexdigest()
    return found


def described(path: Path) -> list[Path]:
    """The files of a model's folder, a pipeline's folders among them; the file itself where it is one."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    folders = [path, *(path / name for name in ("unet", "transformer", "scheduler"))]
    return [file for folder in folders for file in sorted(folder.glob("*")) if file.is_file()]


@cache
def _sha256(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bare(node: Any) -> Any:
    """A config without what its files declare as legal: domains, limits, words."""
    if not isinstance(node, dict):
        return node
    return {key: bare(value) for key, value in node.items() if key not in catalog.LEGAL}

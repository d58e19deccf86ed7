"""What names a training: the sha256 of its resolved config and of the user's own code in it."""

import hashlib
import json
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
        if content[group].get(name) == absent:
            del content[group][name]
    if content["ruler"] == content["denoiser"] | {"_target_": RULER}:
        del content["ruler"]
    return as_first_named(content)


def config_sha256(composed: Composed) -> str:
    """sha256 of the resolved config and of the user's code in it: the same hash, the same training."""
    content = named_by(composed)
    code = trust.own_code(content)
    whole = content | {"own_code": code} if code else content
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def bare(node: Any) -> Any:
    """A config without what its files declare as legal: domains, limits, words."""
    if not isinstance(node, dict):
        return node
    return {key: bare(value) for key, value in node.items() if key not in catalog.LEGAL}

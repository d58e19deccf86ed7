"""What names a training: the sha256 of its resolved config and of the user's own code in it."""

import hashlib
import json
from typing import Any

from omegaconf import OmegaConf

from denoise.config import catalog, trust
from denoise.config.compose import Composed
from denoise.config.moved import as_first_named
from search.space.search_space import NOT_THE_TRIALS


def plain_config(composed: Composed) -> dict[str, Any]:
    """The resolved config of a training, without what no training depends on."""
    content = OmegaConf.to_container(composed.cfg, resolve=True)
    assert isinstance(content, dict)
    if not content["trainer"].get("test_samples"):  # it was not always there: what is not tested keeps its name
        content["trainer"].pop("test_samples", None)
    content["data"].pop("memory", None)  # where images lie, which no training depends on
    return {str(key): value for key, value in content.items() if key not in NOT_THE_TRIALS}


def config_sha256(composed: Composed) -> str:
    """sha256 of the resolved config and of the user's code in it: the same hash, the same training.

    Without what its files declare as legal, which no training depends on.
    """
    content = bare(plain_config(composed))
    code = trust.own_code(content)
    whole = content | {"own_code": code} if code else content
    return hashlib.sha256(json.dumps(as_first_named(whole), sort_keys=True).encode()).hexdigest()


def bare(node: Any) -> Any:
    """A config without what its files declare as legal: domains, limits, words."""
    if not isinstance(node, dict):
        return node
    return {key: bare(value) for key, value in node.items() if key not in catalog.LEGAL}

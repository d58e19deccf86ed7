"""The shortest overrides that give a config: without those that say what is the default anyway."""

from collections.abc import Sequence
from typing import Any

from denoise.config.compose import next_compose
from denoise.errors import UserError
from search.trial.config_hash import plain_config


def shortest(overrides: Sequence[str]) -> list[str]:
    """Leave out each override, the last one first, without which the config is the same."""
    wanted, kept = _config(overrides), list(overrides)
    for text in reversed(overrides):
        without = [each for each in kept if each is not text]
        if _config(without) == wanted:
            kept = without
    return kept


def _config(overrides: Sequence[str]) -> Any:
    try:
        composed = next_compose(tuple(overrides))
    except UserError:  # one needs the other
        return None
    return plain_config(composed), composed.choices

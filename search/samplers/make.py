"""The sampler of a config, seeded anew for each trial."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from denoise.config import catalog
from search.samplers.seeded import KeyedSampler


def sampler(cfg: DictConfig, asks: Any = None) -> KeyedSampler:
    """Build the config's sampler, seeded anew for each trial. Errors: Refusal for a parameter it does not take."""
    node: Any = OmegaConf.to_container(cfg.sampler, resolve=True)
    history = node.pop("history", None)

    def make(seeds: Mapping[str, int]) -> Any:
        with warnings.catch_warnings():  # half of Optuna's samplers are marked experimental, some for years
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return catalog.call(node, kind="sampler", optional=seeds)

    given = (asks.round, asks.history, lambda: asks.lag) if asks else ()
    made = KeyedSampler(make, cfg.seed, history, *given)
    made.fresh(0)
    return made

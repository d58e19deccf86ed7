"""The sampler of a config, seeded anew for each trial."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.study import StudyDirection

from denoise.config import catalog
from search.samplers.seeded import SeededSampler


def sampler(cfg: DictConfig, objectives: int = 1) -> SeededSampler:
    """Build the config's sampler, seeded anew for each trial. Errors: UserError for a parameter it does not take."""
    node: Any = OmegaConf.to_container(cfg.sampler, resolve=True)
    history = node.pop("history", None)

    def make(seeds: Mapping[str, int]) -> Any:
        return catalog.call(node, kind="sampler", optional=seeds)

    made = SeededSampler(make, cfg.seed, [StudyDirection.MINIMIZE] * objectives, history)
    made.fresh(0)
    return made

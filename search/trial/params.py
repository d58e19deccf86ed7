"""The params of a training in MLflow: what was chosen, by config path."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf


def params(choices: Mapping[str, str | None], cfg: Any, kinds: Sequence[str], space_of: Any) -> dict[str, Any]:
    """The params of a training by config path: each kind's option, its searched parameters, and what else sets it."""
    found: dict[str, Any] = {}
    for kind in kinds:
        option = choices[kind]
        found[kind] = option
        for name in space_of(kind, option):
            found[f"{kind}.{option}.{name}"] = cfg[kind].get(name)
    for group in ("data", "model"):
        found[group] = choices[group]
    found |= {f"model.{name}": value for name, value in cfg.model.items() if name not in ("_target_", "limits")}
    for path in ("seed", "placement", "dropout", "zero_output"):
        found[path] = cfg[path]
    found |= {f"trainer.{name}": cfg.trainer[name] for name in ("max_steps", "accelerator", "precision")}
    found["data.batch_size"] = cfg.data.batch_size
    if "lr" in cfg.optimizer:  # one column for all optimizers
        found["optimizer.lr"] = cfg.optimizer.lr
    for place, option in choices.items():
        if "@" in place and option:
            kind, _, path = place.partition("@")
            found[path] = option  # MLflow takes no @ in a name
            found |= {
                f"{path}.{option}.{name}": OmegaConf.select(cfg, f"{path}.{name}") for name in space_of(kind, option)
            }
    return found

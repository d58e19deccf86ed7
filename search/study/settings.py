"""The settings of a search, typed: the config's `search` node once it was checked (conf/search/settings.yaml)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from denoise.metrics import COST
from search.analysis import confirmation


@dataclass(frozen=True)
class Caps:
    """What a trial may cost at most; None: as much as it likes. seconds is a safeguard, and no cost of a config."""

    parameters: float | None = None
    flops_per_step: float | None = None
    peak_memory_bytes: float | None = None
    step_seconds: float | None = None
    seconds: float | None = None

    @property
    def costs(self) -> dict[str, float | None]:
        """The caps on what a config costs."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "seconds"}

    def excess(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """How far each capped cost that is known lies above its cap, as a fraction of it; below zero it is kept."""
        known = {name: (metrics.get(f"{COST}{name}"), cap) for name, cap in self.costs.items()}
        return {name: cost / cap - 1.0 for name, (cost, cap) in known.items() if cap is not None and cost is not None}

    def exceeded(self, metrics: Mapping[str, Any]) -> str:
        """Name the first cap that is exceeded; empty where none is."""
        for name, excess in self.excess(metrics).items():
            if excess > 0:
                return f"over search.caps.{name}={self.costs[name]:g}: {metrics[f'{COST}{name}']:.4g}"
        return ""


@dataclass(frozen=True)
class Stop:
    """What all trials may use together, and how long the best may stay the best, in complete trials."""

    steps: float | None = None
    flops: float | None = None
    seconds: float | None = None
    stale: int | None = None


@dataclass(frozen=True)
class Transfer:
    """At which value of `path` some of the trials are trained too; to: None where none are."""

    path: str
    to: Any
    trials: int


@dataclass(frozen=True)
class SearchSettings:
    """What a search was asked for, apart from its space and its known starts."""

    n_trials: int
    lag: int | None
    equal: str
    screen: bool
    shared: bool
    silence: float | None
    caps: Caps
    stop: Stop
    confirm: confirmation.Settings
    transfer: Transfer
    scientific: tuple[str, ...] = ()
    per_arm: int = 0
    min_per_arm: int = 0
    keep: float = 0.0
    cost: str = ""

    @property
    def trial_seconds(self) -> float | None:
        """How long a trial may take: its cap, and never more than the whole search; None: as long as it likes."""
        return min((limit for limit in (self.caps.seconds, self.stop.seconds) if limit is not None), default=None)


def read(node: DictConfig, seed: int) -> SearchSettings:
    """Read a checked config's `search`; `seed` is the config's. Errors: UserError."""
    plain: Any = OmegaConf.to_container(node, resolve=True)
    parts = {
        "caps": Caps(**plain["caps"]),
        "stop": Stop(**plain["stop"]),
        "confirm": confirmation.settings(plain["confirm"], seed),
        "transfer": Transfer(**plain["transfer"]),
        "scientific": tuple(str(name) for name in plain.get("scientific") or ()),
    }
    return SearchSettings(
        **{field.name: plain[field.name] for field in fields(SearchSettings) if field.name in plain} | parts
    )

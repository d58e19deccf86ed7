"""A search that was checked and may begin: what it asks, in which space, from which starts, under which name."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from denoise.config import catalog
from denoise.config.compose import Composed
from denoise.config.legal import is_lightning
from denoise.config.moved import as_first_named
from denoise.errors import UserError, choose
from denoise.evaluation import sample_quality
from denoise.training import train
from search.samplers import make, support
from search.space import inert
from search.space import search_space as space
from search.space.search_config import read
from search.space.search_space import Space
from search.storages import database
from search.storages.store_folder import store_of
from search.study import corners, known_starts, width_transfer
from search.study import modes as mode
from search.study.modes import Joint
from search.study.settings import SearchSettings
from search.study.settings import read as read_settings
from search.trial import pretrained
from search.trial.config_hash import named_by, own_code
from search.workers.allocation import Division, division

EQUAL = ("steps", "time")


@dataclass(frozen=True)
class Search:
    """A search that was checked; nothing is written before. `family`: what else than the space names its question."""

    composed: Composed
    settings: SearchSettings
    space: Space
    mode: Joint
    baseline: list[str]
    left_out: list[str]
    name: str
    family: str
    store: Path
    storage_url: str
    notes: list[str]
    division: Division
    typed: Sequence[str] = ()  # the overrides that ask for it
    most: int | None = None  # how many trials there can be, where the sampler lists the space
    places: dict[str, int] = field(default_factory=dict)  # of each searched place, in the baseline's network

    @property
    def total(self) -> int:
        """How many trials of its own the search is to have."""
        return self.mode.total if self.most is None else min(self.mode.total, self.most)

    def divided(self, threads: int | None, lag: int) -> "Search":
        """The same, where every trial has so many threads and knows those begun `lag` before it."""
        space = replace(self.space, machine=[] if threads is None else [f"trainer.num_threads={threads}"])
        mode = self.mode.divided(space, lag)
        return replace(self, space=space, mode=mode, baseline=mode.baseline)

    def missing(self, trials: Sequence[FrozenTrial]) -> int:
        """How many trials are still to be begun."""
        return self.mode.missing(trials) - (self.mode.total - self.total)


def prepare(typed: Sequence[str]) -> Search:
    """Check a search down to the baseline's model and optimizer, writing nothing. Errors: UserError."""
    composed, overrides = train.settle(*read(typed), root="search")
    cfg = composed.cfg
    kind = mode.find(composed)
    if cfg.search.name is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", str(cfg.search.name)):
        raise UserError(f"search.name={cfg.search.name}: not a name; letters, digits, dots, dashes and _ are legal")
    if cfg.search.equal not in EQUAL:
        raise UserError(f"search.equal={cfg.search.equal}: unknown; {choose(str(cfg.search.equal), EQUAL)}")
    missing = train.data_notes(cfg) + space.drop_missing(composed, overrides)
    found = space.build(composed, overrides, kind.asked(composed))
    acting = inert.find(composed, found)
    if acting.idle:
        missing += inert.leave_out(composed, acting)
        found = space.build(composed, overrides, kind.asked(composed))
        inert.check(found, acting)
    corners.check(composed, found.free)
    first, left_out, said = known_starts.collect(composed, found, acting, overrides)
    missing += said
    points = [start.point for start in first]
    settings = read_settings(cfg.search, cfg.seed)
    asks = kind(settings, found, points, [start.further for start in first])
    module = train.prepare(pretrained.resolve(cfg))
    if over := settings.caps.exceeded(train.counted(cfg, module)):
        raise UserError(f"{over}: that is the baseline's; raise the cap or take a smaller baseline")
    if settings.confirm.finalists and not train.test_images(cfg):
        raise UserError(
            f"data={composed.choices['data']}: has no test images, on which a confirmation is judged; take "
            "search.confirm.finalists=0, or data that have some"
        )
    if cfg.trainer.test_samples:
        raise UserError(
            f"trainer.test_samples={cfg.trainer.test_samples}: a search's trials see no test images; what its "
            "confirmation sees is search.confirm.test_samples"
        )
    inner = make.sampler(cfg).fresh(0)
    if note := support.check(inner, str(composed.choices["sampler"]), found):
        missing.append(note)
    catalog.call(cfg.pruner, kind="pruner")
    sample_quality.check(cfg)
    if sample_quality.asked(cfg) and not settings.confirm.finalists:
        missing.append("note: quality is measured in the confirmation, which search.confirm.finalists=0 leaves out")
    if cfg.tracking.graph and is_lightning(cfg.model):
        missing.append("note: tracking.graph: a LightningModule is not registered as a model, so it has no graph")
    store = store_of(cfg)
    url = database.address(cfg.search.storage, store)
    base = {"config": named_by(composed), "seed": cfg.seed, "fixed": sorted(found.fixed)}
    base |= {"equal": settings.equal, "screen": settings.screen} | asks.question()
    base |= {"data_sha256": train.data_sha256(cfg)}
    base |= {"sampler": dict(cfg.sampler), "pruner": dict(cfg.pruner)}
    what = base | {"space": found.describe(), "points": points, "caps": settings.caps.costs}
    if any(start.further for start in first):
        what["further"] = [start.further for start in first]
    own = found.own_parts()
    code = own_code(base["config"], *own)
    what |= {"own_code": code, "own_parts": own} if code or own else {}
    name = cfg.search.name or f"{composed.choices['data']}-{composed.choices['model']}-{asks.name}"
    width_transfer.check(settings.transfer, asks.baseline, found.free)
    full = f"{name}-{digest(what)}"
    family = f"{name}-{digest(base)}"
    parts = division(cfg)
    most = support.most(inner, found)
    places = {place: acting.places[place] for place in found.options}
    return Search(
        *(composed, settings, found, asks, asks.baseline, left_out, full, family, store, url, missing, parts),
        *(typed, most, places),
    )


def digest(content: dict[str, Any]) -> str:
    """Eight digits that name plain data."""
    plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in content.items()}
    return hashlib.sha256(json.dumps(as_first_named(plain), sort_keys=True, default=str).encode()).hexdigest()[:8]

"""What of a search cannot act on its network, found before the first trial: what does nothing is not ranked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.distributions import BaseDistribution, CategoricalDistribution

from denoise.config import catalog
from denoise.config.compose import Composed
from denoise.config.legal import brings_its_own
from denoise.config.limits import as_text, as_value
from denoise.config.overrides import key
from denoise.errors import UserError
from denoise.evaluation import reach
from denoise.evaluation.reach import Look
from search.space.search_space import Space, kind_of, path_of

OF_NETWORK = ("model", "parts", "placement", "dropout", "zero_output")  # a free domain elsewhere acts on any network
OPENED_BY = {"activation": "feed_forward", "placement": "normalization"}  # an option of which may be what lets it act
OPENED_IN_OTHERS = {"zero_output": "initializer"}  # in a network that brings its own components
MOST = 60  # networks that are built for a question that stays open; then it is left to the trials


@dataclass
class Reach:
    """Where a search's choices act. places: how often each searched place is taken, in the baseline's network.

    idle: the searched places and config paths that change nothing, in no network of the search; kinds: those that act.
    """

    places: dict[str, int]
    kinds: dict[str, int]
    idle: list[str] = field(default_factory=list)

    def said(self, name: str) -> str:
        """Why a name is idle, in a few words."""
        taken = "this network takes none from the config"
        return f"{name}: {taken} (0 places)" if name in self.places else f"{name}: changes nothing in this network"

    def acting(self) -> str:
        """The kinds that act, with their places."""
        return ", ".join(f"{kind} ({count} places)" if count > 1 else kind for kind, count in self.kinds.items())


def find(composed: Composed, space: Space) -> Reach:
    """Look at the baseline's network, and where something has no place in it at what the search may make of it.

    Errors: UserError for a network that cannot be built.
    """
    cfg = OmegaConf.masked_copy(composed.cfg, reach.LOOKED_AT)
    first = reach.look(cfg)
    found = Reach(
        {place: _count(first, place, cfg, space.options) for place in space.options},
        {kind: count for kind in catalog.KINDS if (count := _count(first, kind, cfg, {}))},
    )
    names = [place for place, count in found.places.items() if not count]
    names += [path for path in space.free if path.split(".")[0] in OF_NETWORK]
    found.idle = _still_open(names, cfg, first, space) if names else []
    return found


def leave_out(composed: Composed, found: Reach) -> list[str]:
    """Take what is idle off a search's config; say so, a line each. Errors: UserError where it is what is asked."""
    search = composed.cfg.search
    for name in search.get("scientific") or []:
        if name in found.idle:
            raise UserError(f"search.scientific: {found.said(str(name))}; what acts: {found.acting()}")
    with open_dict(composed.cfg):
        if "nuisance" in search:
            search.nuisance = [name for name in search.nuisance if not _within(str(name), found.idle)]
        for name in found.idle:
            if name in found.places:
                search.kinds[name] = "fixed"
            else:
                where, _, last = f"search.domains.{name}".rpartition(".")
                del OmegaConf.select(composed.cfg, where)[last]
    return [f"note: {found.said(name)}, so it is not searched" for name in found.idle]


def check(space: Space, found: Reach) -> None:
    """Refuse a search of which nothing is left."""
    domains = [domain for by in space.domains.values() for each in by.values() for domain in each.values()]
    varied = any(not domain.single() for domain in [*domains, *space.free.values()])
    if found.idle and not varied and all(len(names) == 1 for names in space.options.values()):
        gone = ", ".join(found.idle)
        raise UserError(
            f"nothing is left to search: {gone} reach no place of this network; what acts: {found.acting()}"
        )


def unheard(start: Sequence[str], found: Reach) -> str:
    """One line on the part of a known start that cannot act; empty where all of it may."""
    acting = heard(start, found)
    idle = [text for text in start if text not in acting]
    if not idle:
        return ""
    goes = "tried without" if len(idle) < len(start) else "not tried"
    return f"note: known start {' '.join(start)}: {' '.join(idle)} cannot act in this network, so it is {goes}"


def heard(start: Sequence[str], found: Reach) -> list[str]:
    """The overrides of a known start that may act."""
    return [text for text in start if not _within(key(text), found.idle)]


def _within(name: str, idle: Sequence[str]) -> bool:
    names = {*idle, *map(path_of, idle)}
    return name in names or name.startswith(tuple(f"{each}." for each in names))


def _count(look: Look, place: str, cfg: DictConfig, options: Mapping[str, Any]) -> int:
    """How often a place is taken: the main one of a kind for every part that has no choice of its own."""
    kind, own = kind_of(place), set()
    if "@" in place:
        return look.places.get((kind, path_of(place).split(".")[1]), 0)
    for part in {part for _, part in look.places if part}:
        if f"{kind}@parts.{part}.{kind}" in options or (cfg.parts.get(part) or {}).get(kind) is not None:
            own.add(part)
    return sum(count for (taken, part), count in look.places.items() if taken == kind and part not in own)


class _Enough(Exception):
    """So many networks were built as a question may cost."""


class _Looks:
    """Looks at networks, MOST at the most."""

    def __init__(self, space: Space) -> None:
        self.space, self.left = space, MOST

    def at(self, cfg: DictConfig) -> Look:
        self.left -= not brings_its_own(cfg.model)  # one that brings its own is met once, whatever is chosen for it
        if self.left < 0:
            raise _Enough
        return reach.look(cfg)

    def acts(self, name: str, cfg: DictConfig, look: Look) -> bool:
        """Whether a place is taken in a network, or a value at a path makes another one of it."""
        if name in self.space.options:
            return _count(look, name, cfg, self.space.options) > 0
        try:
            others = (self.at(_changed(cfg, name, value)) for value in _values(self.space.free[name]))
            return any(reach.differ(look, other) for other in others)
        except UserError:  # a value with which nothing can be built changes something
            return True


def _still_open(names: Sequence[str], cfg: DictConfig, first: Look, space: Space) -> list[str]:
    """Those of the names that act in no network that the search may make, from the baseline's on.

    From each network that takes something which those before did not, one change more is tried. What is still open
    after MOST of them is left to the trials.
    """
    opened_by = OPENED_IN_OTHERS if brings_its_own(cfg.model) else OPENED_BY
    looks, waiting, known, idle = _Looks(space), [cfg], set(first.places), list(names)
    try:
        idle = [name for name in idle if not looks.acts(name, cfg, first)]
        while waiting and idle:
            here = waiting.pop(0)
            for name, value in list(_changes(space, idle, opened_by)):
                there = _changed(here, name, value)
                try:
                    other = looks.at(there)
                except UserError:
                    continue
                if name in space.free and not set(other.places) - known:
                    continue
                left = [each for each in idle if not looks.acts(each, there, other)]
                if left != idle or set(other.places) - known:
                    waiting.append(there)
                idle, known = left, known | set(other.places)
                if not idle:
                    break
    except _Enough:
        return []
    return idle


def _changes(space: Space, idle: Sequence[str], opened_by: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """The values and options, of those that act themselves, that may let one of the idle ones act."""
    for path, domain in space.free.items():
        if path.split(".")[0] in OF_NETWORK and path not in idle:
            yield from ((path, value) for value in _values(domain))
    kinds = {opened_by.get(kind_of(name) if name in space.options else name.split(".")[-1]) for name in idle}
    for place, options in space.options.items():
        if kind_of(place) in kinds and place not in idle:
            yield from ((place, option) for option in options)


def _values(domain: BaseDistribution) -> Sequence[Any]:
    if isinstance(domain, CategoricalDistribution):
        return domain.choices
    return [getattr(domain, "low", None), getattr(domain, "high", None)]


def _changed(cfg: DictConfig, name: str, value: Any) -> DictConfig:
    """A config with another option at a place, or another value at a path."""
    found: DictConfig = cfg.copy()
    if kind_of(name) in catalog.KINDS and "." not in name.partition("@")[0]:
        entry = catalog.entry(kind_of(name), str(value))
        value = {"_target_": entry.target, **entry.parameters}
    else:
        value = as_value(as_text(value))
    with open_dict(found):
        OmegaConf.update(found, path_of(name), value, merge=False)
    return found

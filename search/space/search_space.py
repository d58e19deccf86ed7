"""The space of a search: which options and domains are live, and how a draw becomes a list of overrides.

A place is where a component is chosen: `activation` for the whole network, or for one part of it
`activation@parts.residual.activation`, as Hydra writes it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json

from denoise.config import catalog
from denoise.config.compose import Composed, defaults, leaves
from denoise.config.legal import KEPT, brings_its_own, exists, is_lightning, limits_of, select, words_of
from denoise.config.limits import as_text
from denoise.config.overrides import Overrides, key
from denoise.errors import UserError, choose
from search.space import domains
from search.space.domains import distribution, flat, inside

SEARCHABLE = ("dropout", "placement", "zero_output", "trainer", "model")  # what a free domain is mostly for
MEASURE = (
    "seed",
    "ruler",
    "data",
    "trainer.val_samples",
    "trainer.test_samples",
    "model.class_conditional",
)  # of the loss
Choose = Callable[[str, BaseDistribution], Any]  # the value of a parameter, from its domain
NOT_THE_TRIALS = ("store", "tracking", "search", "sampler", "pruner", "quality")  # keys that no training depends on


@dataclass(frozen=True)
class Space:
    """What a search may choose.

    options: the options of each searched place; domains: place -> option -> parameter -> distribution; free: config
    path -> distribution, whatever the options; fixed: overrides that every trial has; own: overrides of a searched
    kind that the user gave, which go with the option that they were given for; machine: overrides that every trial has
    here, which are no part of the question.
    """

    options: dict[str, list[str]]
    domains: dict[str, dict[str, dict[str, BaseDistribution]]]
    free: dict[str, BaseDistribution]
    fixed: list[str]
    own: dict[tuple[str, str], list[str]]
    machine: list[str] = field(default_factory=list)

    def suggest(self, choose: Choose) -> list[str]:
        """Choose a trial: its overrides. A parameter is place.option.parameter: each option has its own domain."""
        overrides = [*self.fixed, *self.machine]
        for place, names in self.options.items():
            option = choose(place, CategoricalDistribution(names))
            overrides.append(f"{place}={option}")
            overrides += self.own.get((place, option), [])
            for parameter, domain in self.domains[place][option].items():
                value = choose(f"{place}.{option}.{parameter}", domain)
                overrides.append(f"{path_of(place)}.{parameter}={as_text(value)}")
        for path, domain in self.free.items():
            overrides.append(f"{path}={as_text(choose(path, domain))}")
        return overrides

    def at(self, point: Mapping[str, Any]) -> list[str]:
        """The overrides of a point, its parameters by name. Errors: KeyError for one that is missing."""
        return self.suggest(lambda name, domain: point[name])

    def point(self, composed: Composed) -> dict[str, Any]:
        """Where a config stands in the space, as parameters for Optuna. Errors: UserError where it stands outside."""
        params: dict[str, Any] = {}
        for place, names in self.options.items():
            option, at = chosen(composed, place)
            if option not in names:
                raise UserError(
                    f"search.kinds.{place}: the baseline's {option} is not among {', '.join(names)}; add it (a "
                    f"control with search.controls=true), or take another baseline with {place}={names[0]}"
                )
            params[place] = option
            for parameter, domain in self.domains[place][option].items():
                value = OmegaConf.select(composed.cfg, f"{at}.{parameter}")
                params[f"{place}.{option}.{parameter}"] = inside(f"{at}.{parameter}", value, domain)
        for path, domain in self.free.items():
            params[path] = inside(path, OmegaConf.select(composed.cfg, path), domain)
        return params

    def defaults(self, place: str, option: str) -> dict[str, Any]:
        """The parameters of an option at the values of its file, for Optuna."""
        parameters = catalog.entry(kind_of(place), option).parameters
        found = {name: parameters.get(name) for name in self.domains[place][option]}
        return {
            f"{place}.{option}.{name}": inside(f"{place}={option}: {name}", value, self.domains[place][option][name])
            for name, value in found.items()
        }

    def describe(self) -> dict[str, Any]:
        """The space as plain data, for the record."""

        def plain(domain: BaseDistribution) -> Any:
            return json.loads(distribution_to_json(domain))["attributes"]

        return {
            "options": self.options,
            "domains": {
                f"{kind}.{option}.{parameter}": plain(domain)
                for kind, by_option in self.domains.items()
                for option, by_parameter in by_option.items()
                for parameter, domain in by_parameter.items()
            }
            | {path: plain(domain) for path, domain in self.free.items()},
            "fixed": self.fixed,
            "own": [override for given in self.own.values() for override in given],
        }

    def own_parts(self) -> list[dict[str, Any]]:
        """The options that are the user's own files, with their code's name and their defaults."""
        entries = [catalog.entry(kind_of(place), name) for place, names in self.options.items() for name in names]
        own = [entry for entry in entries if not entry.path.is_relative_to(catalog.CONF)]
        return [{"option": entry.option, "_target_": entry.target, **entry.parameters} for entry in own]

    def sha256(self) -> str:
        """Name the space: two searches with one hash ask the same question."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()


def kind_of(place: str) -> str:
    """The kind of the component that is chosen at a place."""
    return place.partition("@")[0]


def path_of(place: str) -> str:
    """Where in the config a place stands."""
    return place.partition("@")[2] or place


def chosen(composed: Composed, place: str) -> tuple[str | None, str]:
    """The option that a config has at a place, and the path of its parameters; a part without its own has the main."""
    own = composed.choices.get(place)
    return (own, path_of(place)) if own is not None else (composed.choices[kind_of(place)], kind_of(place))


@dataclass(frozen=True)
class Asked:
    """What is searched at a place: its options or the baseline's alone, and which parameters (None: all declared)."""

    options: bool
    parameters: frozenset[str] | None = None


def build(composed: Composed, overrides: Sequence[str], asked: Mapping[str, Asked] | None = None) -> Space:
    """Read the space of a composed search config; `overrides` are the user's, `asked` narrows it. Errors: UserError."""
    search = composed.cfg.search
    kinds: dict[str, Any] = {str(place): given for place, given in search.kinds.items() if given != "fixed"}
    if asked is not None:
        kinds = {p: kinds.get(p, "all") if a.options else [chosen(composed, p)[0]] for p, a in asked.items()}
    options = {place: _options(place, given, composed) for place, given in kinds.items()}
    domains = {place: {name: _domains(place, name, composed) for name in names} for place, names in options.items()}
    for place, one in (asked or {}).items():
        if one.parameters is not None:
            domains[place] = {
                name: {parameter: domain for parameter, domain in declared.items() if parameter in one.parameters}
                for name, declared in domains[place].items()
            }
    base = defaults(overrides, "search").cfg
    free = {path: _free(path, node, composed, base, options) for path, node in flat(search.domains)}
    fixed: list[str] = []
    own: dict[tuple[str, str], list[str]] = {}
    for text in overrides:
        head = key(text).split(".")[0]
        if head in NOT_THE_TRIALS:
            continue
        if head in options:
            if "." in key(text) and not _searched(key(text), composed, domains):
                own.setdefault((head, str(composed.choices[head])), []).append(text)
        else:
            fixed.append(text)
    return Space(options, domains, free, fixed, own)


def _free(
    path: str, node: DictConfig, composed: Composed, base: DictConfig, options: Mapping[str, Sequence[str]]
) -> BaseDistribution:
    """The domain of a config path. Errors: UserError where none can be searched there, or where it is not legal."""
    where = f"search.domains.{path}"
    if path != "data.batch_size" and f"{path}.".startswith(tuple(f"{key}." for key in MEASURE)):
        legal = choose(path, _paths(composed))
        raise UserError(f"{where}: cannot be searched, val/loss itself depends on it; {legal}")
    if path.split(".")[0] in NOT_THE_TRIALS:
        raise UserError(f"{where}: no training depends on it; {choose(path, _paths(composed))}")
    for place in [*options, *(at for at in composed.choices if kind_of(at) in catalog.KINDS)]:
        at, parameter = path_of(place), path.removeprefix(f"{path_of(place)}.")
        if path == at:
            way = f"write search.kinds.{place}={_listed(node, place)}"
            if "@" in place:  # which no command line can hold
                way = f"name {place} under kinds in a file of your own, as search=parts does"
            raise UserError(f"{where}: is a choice of an option; {way}")
        if place in options and parameter != path:
            raise UserError(f"{where}: is searched with its option; write {at}.space.{parameter}={_typed(node)}")
    if not exists(composed.cfg, path) or set(path.split(".")) & {"_target_", *catalog.RESERVED}:
        raise UserError(f"{where}: the config has no such value to start from; {choose(path, _paths(composed))}")
    if isinstance(OmegaConf.select(composed.cfg, path), DictConfig):
        within = [key for key in _paths(composed) if key.startswith(f"{path}.")]
        raise UserError(f"{where}: {path} is a group of settings; {choose(path, within)}")
    domain = distribution(where, node)
    domains.check(where, path, domain, select(base, path), words_of(base, path), limits_of(base, path))
    return domain


def _typed(node: DictConfig) -> str:
    """A domain as it is typed."""
    return "{" + ",".join(f"{key!s}:{as_text(value)}" for key, value in node.items()) + "}"


def _listed(node: DictConfig, place: str) -> str:
    known = catalog.options(kind_of(place))
    names = [str(name) for name in node.get("choices") or [] if name in known]
    return f"[{','.join(names or known[:2])}]"


def drop_missing(composed: Composed, overrides: Sequence[str]) -> list[str]:
    """Take off the domains that a search's file brings and this config has no value for; say so, a line each.

    A shape is searched by the names of one backbone, and another has other names. What the user typed stays.
    """
    typed = Overrides(overrides).values
    said = []
    for path, _ in flat(composed.cfg.search.domains):
        if not exists(composed.cfg, path) and f"search.domains.{path}" not in typed:
            said.append(f"note: {path} is no value of this config, so it is not searched")
            where, _, name = f"search.domains.{path}".rpartition(".")
            with open_dict(composed.cfg):
                del OmegaConf.select(composed.cfg, where)[name]
    return said


def _options(place: str, given: Any, composed: Composed) -> list[str]:
    kind = kind_of(place)
    if kind not in catalog.KINDS or ("@" in place and place not in composed.choices):
        places = [*catalog.KINDS, *(name for name in composed.choices if "@" in name)]
        raise UserError(f"search.kinds.{place}: nothing is chosen there; {choose(place, places)}")
    names, controls = catalog.options(kind), composed.cfg.search.controls
    if brings_its_own(composed.cfg.model) and kind in KEPT:
        names = [catalog.AS_BUILT, *names]
    if is_lightning(composed.cfg.model) and kind == "optimizer":  # no curvature of its loss is known
        names = [name for name in names if not hasattr(get_object(catalog.entry(kind, name).target), "curvature")]
    if given == "tuned":
        return [str(chosen(composed, place)[0])]
    if given is None or given == "all":
        entries = {name: catalog.entry(kind, name) for name in names}
        wanted = [name for name in names if controls or not entries[name].control]
        return [name for name in wanted if not entries[name].needs or name == chosen(composed, place)[0]]
    if isinstance(given, str) or not (OmegaConf.is_list(given) or isinstance(given, list)):
        raise UserError(
            f"search.kinds.{place}={given}: must be all, fixed, tuned, or a list such as [{','.join(names[:2])}]"
        )
    for name in given:
        if name not in names:
            raise UserError(f"search.kinds.{place}: unknown option {name}; {choose(str(name), names)}")
    if not given or len(set(given)) < len(given):
        raise UserError(f"search.kinds.{place}={list(given)}: must name at least one option, each once")
    return [str(name) for name in given]


def _domains(place: str, option: str, composed: Composed) -> dict[str, BaseDistribution]:
    there, at = chosen(composed, place)
    node = OmegaConf.select(composed.cfg, at) if there == option else None
    entry = catalog.entry(kind_of(place), option)
    space = (node.get("space") or {}) if node is not None else entry.space
    found = {str(name): distribution(f"{at}.space.{name}", domain) for name, domain in space.items()}
    for name, domain in found.items():
        default, words = entry.parameters.get(name), entry.words.get(name, ())
        domains.check(f"{at}.space.{name}", f"{at}.{name}", domain, default, words, entry.limits.get(name))
    return found


def _searched(path: str, composed: Composed, domains: dict[str, dict[str, dict[str, BaseDistribution]]]) -> bool:
    kind, _, parameter = path.partition(".")
    option = composed.choices[kind]
    return parameter in domains[kind].get(str(option), {})


def _paths(composed: Composed) -> list[str]:
    """The values that a free domain may be of."""
    legal = (path for path, _ in leaves(composed.cfg) if path.split(".")[0] in SEARCHABLE)
    hidden = {"_target_", *catalog.RESERVED}
    return [path for path in legal if path not in MEASURE and not hidden & set(path.split("."))]

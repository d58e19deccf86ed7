"""The space of a search: which options and domains are live, and how a draw becomes a list of overrides.

A place is where a component is chosen: `activation` for the whole network, or for one part of it
`activation@parts.residual.activation`, as Hydra writes it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.trial import BaseTrial

from denoise import catalog
from denoise.config import Composed, leaves, parse
from denoise.refusal import Refusal, choose

SEARCHABLE = ("dropout", "placement", "zero_output", "trainer", "model")  # what a free domain is mostly for
MEASURE = ("denoiser", "data", "trainer.val_samples", "trainer.test_samples", "model.class_conditional")  # of the loss
DOMAIN_KEYS = ("type", "low", "high", "step", "log", "choices", "name", "attributes")
NOT_THE_TRIALS = ("store", "tracking", "search", "sampler", "pruner")  # keys that no training depends on


@dataclass(frozen=True)
class Space:
    """What a search may choose.

    options: the options of each searched place; domains: place -> option -> parameter -> distribution; free: config
    path -> distribution, whatever the options; fixed: overrides that every trial has; own: overrides of a searched
    kind that a person gave, which go with the option that they were given for; machine: overrides that every trial has
    here, which are no part of the question.
    """

    options: dict[str, list[str]]
    domains: dict[str, dict[str, dict[str, BaseDistribution]]]
    free: dict[str, BaseDistribution]
    fixed: list[str]
    own: dict[tuple[str, str], list[str]]
    machine: list[str] = field(default_factory=list)

    def suggest(self, trial: BaseTrial) -> list[str]:
        """Draw a trial: its overrides. A parameter is named place.option.parameter: each option has its own domain."""
        overrides = [*self.fixed, *self.machine]
        for place, names in self.options.items():
            option = draw(trial, place, CategoricalDistribution(names))
            overrides.append(f"{place}={option}")
            overrides += self.own.get((place, option), [])
            for parameter, domain in self.domains[place][option].items():
                value = draw(trial, f"{place}.{option}.{parameter}", domain)
                overrides.append(f"{path_of(place)}.{parameter}={value}")
        for path, domain in self.free.items():
            overrides.append(f"{path}={draw(trial, path, domain)}")
        return overrides

    def point(self, composed: Composed) -> dict[str, Any]:
        """Where a config stands in the space, as parameters for Optuna. Errors: Refusal where it stands outside."""
        params: dict[str, Any] = {}
        for place, names in self.options.items():
            option, at = chosen(composed, place)
            if option not in names:
                raise Refusal(
                    f"search.kinds.{place}: the baseline's {option} is not among {', '.join(names)}; add it (a "
                    f"control with search.controls=true), or take another baseline with {place}={names[0]}"
                )
            params[place] = option
            for parameter, domain in self.domains[place][option].items():
                value = OmegaConf.select(composed.cfg, f"{at}.{parameter}")
                params[f"{place}.{option}.{parameter}"] = _inside(f"{at}.{parameter}", value, domain)
        for path, domain in self.free.items():
            params[path] = _inside(path, OmegaConf.select(composed.cfg, path), domain)
        return params

    def defaults(self, place: str, option: str) -> dict[str, Any]:
        """The parameters of an option at the values of its file, for Optuna."""
        parameters = catalog.entry(kind_of(place), option).parameters
        found = {name: parameters.get(name) for name in self.domains[place][option]}
        return {
            f"{place}.{option}.{name}": _inside(f"{place}={option}: {name}", value, self.domains[place][option][name])
            for name, value in found.items()
        }

    def describe(self) -> dict[str, Any]:
        """The space as plain data, for the record."""

        def plain(domain: BaseDistribution) -> Any:
            return domain._asdict()

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
        """The options that are a person's own files, with their code's name and their defaults."""
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
    """Read the space of a composed search config; `overrides` are the person's, `asked` narrows it. Errors: Refusal."""
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
    free = {path: distribution(f"search.domains.{path}", node) for path, node in flat(search.domains)}
    for path in free:
        if path != "data.batch_size" and f"{path}.".startswith(tuple(f"{key}." for key in MEASURE)):
            legal = choose(path, _paths(composed))
            raise Refusal(f"search.domains.{path}: cannot be searched, val/loss itself depends on it; {legal}")
        if OmegaConf.select(composed.cfg, path) is None:
            raise Refusal(
                f"search.domains.{path}: the config has no such value to start from; {choose(path, _paths(composed))}"
            )
        if path.split(".")[0] in options or path.split(".")[0] in NOT_THE_TRIALS:
            raise Refusal(f"search.domains.{path}: is searched with its option; set {path.split('.')[0]}.space instead")
    fixed: list[str] = []
    own: dict[tuple[str, str], list[str]] = {}
    for text in overrides:
        override = parse(text)
        head = override.key_or_group.split(".")[0]
        if head in NOT_THE_TRIALS:
            continue
        if override.package is None and head in options:
            if "." in override.key_or_group and not _searched(override.key_or_group, composed, domains):
                own.setdefault((head, str(composed.choices[head])), []).append(text)
        else:
            fixed.append(text)
    return Space(options, domains, free, fixed, own)


def drop_missing(composed: Composed, overrides: Sequence[str]) -> list[str]:
    """Take off the domains that a search's file brings and this config has no value for; say so, a line each.

    A shape is searched by the names of one backbone, and another has other names. What a person typed stays.
    """
    typed = {parse(text).key_or_group for text in overrides}
    said = []
    for path, _ in flat(composed.cfg.search.domains):
        if OmegaConf.select(composed.cfg, path) is None and f"search.domains.{path}" not in typed:
            said.append(f"note: {path} is no value of this config, so it is not searched")
            where, _, name = f"search.domains.{path}".rpartition(".")
            with open_dict(composed.cfg):
                del OmegaConf.select(composed.cfg, where)[name]
    return said


def draw(trial: BaseTrial, name: str, domain: BaseDistribution) -> Any:
    """Draw one parameter from its domain."""
    if isinstance(domain, FloatDistribution):
        return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)
    if isinstance(domain, IntDistribution):
        return trial.suggest_int(name, domain.low, domain.high, step=domain.step, log=domain.log)
    assert isinstance(domain, CategoricalDistribution)
    return trial.suggest_categorical(name, domain.choices)


def distribution(where: str, node: Mapping[str, Any] | DictConfig) -> BaseDistribution:
    """Read a domain in Optuna's own JSON form: {type: float, low: 0.1, high: 1.0, log: true}."""
    content: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    for key in content:
        if key not in DOMAIN_KEYS:
            raise Refusal(f"{where}: a domain has no {key}; {choose(str(key), DOMAIN_KEYS)}")
    try:
        return json_to_distribution(json.dumps(content))
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(
            f"{where}: not a domain ({' '.join(str(error).split())}); write "
            "{type: float, low: 0.1, high: 1.0, log: true} or {type: categorical, choices: [a, b]}"
        ) from error


def _options(place: str, given: Any, composed: Composed) -> list[str]:
    kind = kind_of(place)
    if kind not in catalog.KINDS or ("@" in place and place not in composed.choices):
        places = [*catalog.KINDS, *(name for name in composed.choices if "@" in name)]
        raise Refusal(f"search.kinds.{place}: nothing is chosen there; {choose(place, places)}")
    names, controls = catalog.options(kind), composed.cfg.search.controls
    if given == "tuned":
        return [str(chosen(composed, place)[0])]
    if given is None or given == "all":
        entries = {name: catalog.entry(kind, name) for name in names}
        wanted = [name for name in names if controls or not entries[name].control]
        return [name for name in wanted if not entries[name].needs or name == chosen(composed, place)[0]]
    if isinstance(given, str) or not (OmegaConf.is_list(given) or isinstance(given, list)):
        raise Refusal(
            f"search.kinds.{place}={given}: must be all, fixed, tuned, or a list such as [{','.join(names[:2])}]"
        )
    for name in given:
        if name not in names:
            raise Refusal(f"search.kinds.{place}: unknown option {name}; {choose(str(name), names)}")
    if not given or len(set(given)) < len(given):
        raise Refusal(f"search.kinds.{place}={list(given)}: must name at least one option, each once")
    return [str(name) for name in given]


def _domains(place: str, option: str, composed: Composed) -> dict[str, BaseDistribution]:
    there, at = chosen(composed, place)
    node = OmegaConf.select(composed.cfg, at) if there == option else None
    space = (node.get("space") or {}) if node is not None else catalog.entry(kind_of(place), option).space
    return {str(name): distribution(f"{at}.space.{name}", domain) for name, domain in space.items()}


def _searched(path: str, composed: Composed, domains: dict[str, dict[str, dict[str, BaseDistribution]]]) -> bool:
    kind, _, parameter = path.partition(".")
    option = composed.choices[kind]
    return parameter in domains[kind].get(str(option), {})


def _paths(composed: Composed) -> list[str]:
    found = [path for path, value in leaves(composed.cfg) if value is not None and path.split(".")[0] in SEARCHABLE]
    return [path for path in found if path not in MEASURE]


def _inside(where: str, value: Any, domain: BaseDistribution) -> Any:
    if OmegaConf.is_list(value):  # Optuna's choices are plain values: a list is chosen as its text
        value = str(list(value)).replace(" ", "")
    try:
        if domain._contains(domain.to_internal_repr(value)):
            return value
    except (ValueError, TypeError):
        pass
    legal = getattr(domain, "choices", None) or f"[{getattr(domain, 'low', '')}, {getattr(domain, 'high', '')}]"
    raise Refusal(f"{where}={value}: the baseline's value is outside the searched domain {legal}; widen it or move it")


def flat(node: DictConfig, prefix: str = "") -> list[tuple[str, DictConfig]]:
    """The domains of a tree by their config path. Errors: Refusal for what is none."""
    found: list[tuple[str, DictConfig]] = []
    for name, value in node.items():
        path = f"{prefix}{name!s}"
        if isinstance(value, DictConfig) and "type" not in value:
            found += flat(value, f"{path}.")
        elif isinstance(value, DictConfig):
            found.append((path, value))
        else:
            raise Refusal(f"search.domains.{path}={value}: not a domain; write {{type: float, low: 0.1, high: 1.0}}")
    return found

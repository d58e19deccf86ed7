"""The space of a search: which options and domains are live, and how a draw becomes a list of overrides."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
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

SEARCHABLE = ("dropout", "placement", "zero_output", "data", "trainer", "denoiser")  # what a free domain is mostly for
DOMAIN_KEYS = ("type", "low", "high", "step", "log", "choices", "name", "attributes")
NOT_THE_TRIALS = ("store", "tracking", "search", "sampler", "pruner")  # keys that no training depends on


@dataclass(frozen=True)
class Space:
    """What a search may choose.

    options: the options of each searched kind; domains: kind -> option -> parameter -> distribution; free: config
    path -> distribution, whatever the options; fixed: overrides that every trial has; own: overrides of a searched
    kind that a person gave, which go with the option that they were given for.
    """

    options: dict[str, list[str]]
    domains: dict[str, dict[str, dict[str, BaseDistribution]]]
    free: dict[str, BaseDistribution]
    fixed: list[str]
    own: dict[tuple[str, str], list[str]]

    def suggest(self, trial: BaseTrial) -> list[str]:
        """Draw a trial: its overrides. A parameter is named kind.option.parameter: each option has its own domain."""
        overrides = list(self.fixed)
        for kind, names in self.options.items():
            option = draw(trial, kind, CategoricalDistribution(names))
            overrides.append(f"{kind}={option}")
            overrides += self.own.get((kind, option), [])
            for parameter, domain in self.domains[kind][option].items():
                value = draw(trial, f"{kind}.{option}.{parameter}", domain)
                overrides.append(f"{kind}.{parameter}={value}")
        for path, domain in self.free.items():
            overrides.append(f"{path}={draw(trial, path, domain)}")
        return overrides

    def point(self, composed: Composed) -> dict[str, Any]:
        """Where a config stands in the space, as parameters for Optuna. Errors: Refusal where it stands outside."""
        params: dict[str, Any] = {}
        for kind, names in self.options.items():
            option = composed.choices[kind]
            if option not in names:
                raise Refusal(
                    f"search.kinds.{kind}: the baseline's {option} is not among {', '.join(names)}; add it (a "
                    f"control with search.controls=true), or take another baseline with {kind}={names[0]}"
                )
            params[kind] = option
            for parameter, domain in self.domains[kind][option].items():
                value = OmegaConf.select(composed.cfg, f"{kind}.{parameter}")
                params[f"{kind}.{option}.{parameter}"] = _inside(f"{kind}.{parameter}", value, domain)
        for path, domain in self.free.items():
            params[path] = _inside(path, OmegaConf.select(composed.cfg, path), domain)
        return params

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

    def sha256(self) -> str:
        """Name the space: two searches with one hash ask the same question."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()


def build(composed: Composed, overrides: Sequence[str]) -> Space:
    """Read the space of a composed search config; `overrides` are the person's. Errors: Refusal."""
    search = composed.cfg.search
    options = {str(kind): _options(str(kind), given, composed) for kind, given in search.kinds.items()}
    domains = {kind: {name: _domains(kind, name, composed) for name in names} for kind, names in options.items()}
    free = {path: distribution(f"search.domains.{path}", node) for path, node in _flat(search.domains)}
    for path in free:
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


def _options(kind: str, given: Any, composed: Composed) -> list[str]:
    names, controls = catalog.options(kind), composed.cfg.search.controls
    if given is None or given == "all":
        entries = {name: catalog.entry(kind, name) for name in names}
        wanted = [name for name in names if controls or not entries[name].control]
        return [name for name in wanted if not entries[name].needs or name == composed.choices[kind]]
    if isinstance(given, str) or not OmegaConf.is_list(given):
        raise Refusal(f"search.kinds.{kind}={given}: must be all, or a list such as [{','.join(names[:2])}]")
    for name in given:
        if name not in names:
            raise Refusal(f"search.kinds.{kind}: unknown option {name}; {choose(str(name), names)}")
    if not given or len(set(given)) < len(given):
        raise Refusal(f"search.kinds.{kind}={list(given)}: must name at least one option, each once")
    return [str(name) for name in given]


def _domains(kind: str, option: str, composed: Composed) -> dict[str, BaseDistribution]:
    chosen = composed.choices[kind] == option
    space = (composed.cfg[kind].get("space") or {}) if chosen else catalog.entry(kind, option).space
    return {str(name): distribution(f"{kind}.space.{name}", node) for name, node in space.items()}


def _searched(path: str, composed: Composed, domains: dict[str, dict[str, dict[str, BaseDistribution]]]) -> bool:
    kind, _, parameter = path.partition(".")
    option = composed.choices[kind]
    return parameter in domains[kind].get(str(option), {})


def _paths(composed: Composed) -> list[str]:
    return [path for path, value in leaves(composed.cfg) if value is not None and path.split(".")[0] in SEARCHABLE]


def _inside(where: str, value: Any, domain: BaseDistribution) -> Any:
    try:
        if domain._contains(domain.to_internal_repr(value)):
            return value
    except (ValueError, TypeError):
        pass
    raise Refusal(f"{where}={value}: the baseline's value is outside the searched domain {domain}; widen it or move it")


def _flat(node: DictConfig, prefix: str = "") -> list[tuple[str, DictConfig]]:
    found: list[tuple[str, DictConfig]] = []
    for name, value in node.items():
        path = f"{prefix}{name!s}"
        if isinstance(value, DictConfig) and "type" not in value:
            found += _flat(value, f"{path}.")
        elif isinstance(value, DictConfig):
            found.append((path, value))
        else:
            raise Refusal(f"search.domains.{path}={value}: not a domain; write {{type: float, low: 0.1, high: 1.0}}")
    return found

"""Whether a composed config has the keys of this project's and no others: one that nothing reads is a misspelt one.

What is typed is checked where it is typed; this is for the user's own files: a root config, an option of any group, an
experiment.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from denoise.config.catalog import CONF, RESERVED
from denoise.config.legal import ELSEWHERE, check_type, exists, named_parts
from denoise.config.limits import as_text
from denoise.errors import UserError, choose

BASES = {"trainer": "default", "search": "settings", "tracking": "mlflow"}  # the file that all of a group begin with
NEEDED: dict[str, dict[str, Any]] = {
    "data": {"batch_size": 64},
    "model": {"class_conditional": False},
    "solver": {"steps": 18, "images": 16},
}
OPEN = ("search.kinds", "search.domains")  # mappings whose keys the user chooses
ROOTS = {False: ("train",), True: ("train", "search")}  # whose keys a root config has, without or with a search


def check(cfg: DictConfig, choices: Mapping[str, str | None], root: str, own: Mapping[str, bool]) -> None:
    """Refuse a key that nothing reads, and a file that lacks what is read.

    own: of each chosen place, and of the root config as "", whether its file is the user's own. Errors: UserError.
    """
    places = {at.partition("@")[2] or at: at for at in choices}
    if "experiment" in cfg:
        raise UserError(
            f"experiment={choices['experiment']}: its keys stand under experiment, where nothing reads them; "
            "begin the file with the line # @package _global_"
        )
    legal = {key: each for file in ROOTS["search" in choices] for key, each in _file(file).items()}
    legal["parts"] = legal["parts"] | {name: {} for name in named_parts(cfg.get("model"))}
    _walk(cfg, legal, "", places, choices, own)
    missing = next((name for name in legal if name not in cfg), None)
    if missing is not None:
        raise UserError(f"{root}.yaml: lacks {missing}; begin the file with defaults: [train, _self_]")
    for at, option in choices.items():
        if at in BASES and option is not None:
            lost = _lost(cfg[at], _file(f"{at}/{BASES[at]}"), at)
            if lost:
                raise UserError(f"{at}={option}: lacks {lost}; begin the file with defaults: [{BASES[at]}, _self_]")
        for name, value in NEEDED.get(at, {}).items():
            if name not in cfg[at] and own.get(at):
                raise UserError(f"{at}={option}: lacks {name}; write {name}: {as_text(value)} into its file")


def _walk(
    node: DictConfig,
    legal: Mapping[str, Any],
    prefix: str,
    places: Mapping[str, str],
    choices: Mapping[str, str | None],
    own: Mapping[str, bool],
) -> None:
    for name in map(str, node):
        path = f"{prefix}{name}"
        below = node[name] if isinstance(node[name], DictConfig) else None
        at = places.get(path)
        if at is not None and below is None and node[name] is not None:
            raise UserError(
                f"{_whose(path, choices, own)}{path}={as_text(node[name])}: an option stands there; choose one with "
                f"defaults: [train, override /{at}: NAME, _self_], its values below {path}"
            )
        if name in RESERVED and prefix.rstrip(".") not in OPEN:
            for declared in below or {}:
                _check_declared(node, path, str(declared), choices, own)
        elif at in BASES and below is not None:
            _walk(below, _union(at), f"{path}.", places, choices, own)
        elif at is not None:  # whoever builds it says which parameters it takes
            for declared in (below or {}).get("limits") or {}:
                _check_declared(below, f"{path}.limits", str(declared), choices, own)
        elif name not in legal:
            near = ELSEWHERE.get(path) or choose(path, [f"{prefix}{key}" for key in legal if key not in RESERVED])
            raise UserError(f"{_whose(path, choices, own)}{path}={as_text(node[name])}: no such key; {near}")
        else:
            default = legal[name]
            if not isinstance(default, dict) or below is None:
                value = OmegaConf.to_container(node[name]) if OmegaConf.is_config(node[name]) else node[name]
                check_type(f"{_whose(path, choices, own)}{path}={as_text(value)}", value, default)
            if below is not None and isinstance(default, dict) and path not in OPEN:
                _walk(below, default, f"{path}.", places, choices, own)


def _check_declared(
    node: Any, path: str, name: str, choices: Mapping[str, str | None], own: Mapping[str, bool]
) -> None:
    if not exists(node, name):
        names = [str(key) for key in node if key not in RESERVED and key != "_target_"]
        raise UserError(f"{_whose(path, choices, own)}{path} names {name}, which has no value; {choose(name, names)}")


def _whose(path: str, choices: Mapping[str, str | None], own: Mapping[str, bool]) -> str:
    """The file of the user's own that a key is most likely of."""
    group = path.split(".")[0]
    if own.get(group):
        return f"{group}={choices[group]}: "
    if choices.get("experiment") is not None:
        return f"experiment={choices['experiment']}: "
    return "config: "


def _lost(node: Any, wanted: Mapping[str, Any], path: str) -> str:
    """The first key that a node lacks."""
    for name, each in wanted.items():
        if name not in node:
            return f"{path}.{name}"
        inner = isinstance(each, dict) and isinstance(node[name], DictConfig) and name not in RESERVED
        if inner and (lost := _lost(node[name], each, f"{path}.{name}")):
            return lost
    return ""


@cache
def _file(name: str) -> dict[str, Any]:
    """A file of this project's as plain data, with the groups that its defaults choose."""
    content: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    chosen = [key for each in content.pop("defaults", []) if isinstance(each, dict) for key in each]
    content.pop("hydra", None)
    groups = {key: None for key in chosen if "@" not in key and key != "experiment"} if "/" not in name else {}
    return groups | content


@cache
def _union(group: str) -> dict[str, Any]:
    """The keys of all files of a group of settings."""
    found: dict[str, Any] = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        found = _both(found, _file(f"{group}/{path.stem}"))
    return found


def _both(one: Any, other: Any) -> Any:
    """The keys of both; a value that one of them has as null is null."""
    if isinstance(one, dict) and isinstance(other, dict):
        shared = {key: _both(one[key], other[key]) for key in one if key in other}
        return one | other | shared
    return None if one is None or other is None else one

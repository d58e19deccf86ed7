"""Compose one config after another that differ in options and in values, without Hydra for each of them.

Hydra takes 0.1 s to read the defaults list, the files and the overrides. In a search all trials have the same defaults
and differ in which option file stands under a kind and in some values: the file is put under the kind, the values into
the config. Where that is not all that Hydra would do, None says so.
"""

import pickle
import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
PLACES = "model.parts."  # what stands there says which places there are
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?")
Divided = tuple[dict[str, str], dict[str, str], tuple[str, ...]]


class Base:
    """A composed config whose interpolations are not resolved yet, and which option each group has."""

    def __init__(self, cfg: DictConfig, chosen: Mapping[str, str | None]) -> None:
        self.content: Any = OmegaConf.to_container(cfg, resolve=False)
        self.chosen = chosen
        self.pickled = pickle.dumps(cfg)  # made anew of this it takes a tenth of the time of making it of plain data


def divide(overrides: tuple[str, ...], kinds: Collection[str], groups: Collection[str]) -> Divided | None:
    """Sort overrides into options by kind, texts by path, and all others.

    None where one comes twice, or where one says something else of a kind or of a path: then their order counts.
    """
    options: dict[str, str] = {}
    values: dict[str, str] = {}
    others = []
    for text in overrides:
        name, given, value = text.partition("=")
        kind = name.partition(".")[0]
        if name in options or name in values:
            return None
        if name in kinds:
            options[name] = value
        elif f"{name}.".startswith(PLACES):
            others.append(text)
        elif name not in groups and given and PATH.fullmatch(name) and (kind in kinds or not value.startswith("{")):
            values[name] = value
        elif kind.lstrip("+~") in kinds:
            return None
        else:
            others.append(text)
    paths = {text.partition("=")[0].lstrip("+~") for text in others} - set(groups)
    if any(f"{v}.".startswith(f"{path}.") or f"{path}.".startswith(f"{v}.") for path in paths for v in values):
        return None
    return options, values, tuple(others)


def assemble(
    base: Base,
    options: Mapping[str, str],
    values: Mapping[str, str],
    path: Callable[[str, str], Path | None],
    parse: Callable[[str], Any],
) -> DictConfig | None:
    """Put option files and values into a composed config.

    `path` finds the file of (kind, option), `parse` reads one override. None where a file has a defaults list or a
    package of its own, where `base` does not hold its options as their files have them, and for a key that is new.
    """
    cfg: DictConfig = pickle.loads(base.pickled)
    content = dict(base.content)
    for kind, option in options.items():
        before, now = _file(path(kind, str(base.chosen.get(kind)))), _file(path(kind, option))
        if now is None or before is None or content.get(kind) != before:
            return None
        content[kind] = cfg[kind] = now
    for name, text in values.items():
        *above, parameter = name.split(".")
        node: Any = content
        there: Any = cfg
        for step in above:
            node = node.get(step) if isinstance(node, dict) else None
            if not isinstance(node, dict):
                return None
            there = there[step]
        if parameter not in node or isinstance(node[parameter], dict):
            return None
        value = _number(text) if NUMBER.fullmatch(text) else parse(f"{name}={text}").value()
        if not _is_plain(value):
            return None
        there[parameter] = value
    OmegaConf.resolve(cfg)
    return cfg


def _is_plain(value: Any) -> bool:
    """Whether Hydra, too, would put a value there as it is: no mapping, and nothing to look up."""
    if isinstance(value, list):
        return all(_is_plain(each) for each in value)
    return isinstance(value, int | float | str | None) and "${" not in str(value)


def _number(text: str) -> int | float:
    return float(text) if "." in text or "e" in text else int(text)


@lru_cache(maxsize=1024)
def _file(path: Path | None) -> dict[str, Any] | None:
    """An option file as plain data; None where it is more than its own node."""
    if path is None or "@package" in path.read_text(encoding="utf-8"):
        return None
    content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return None if not isinstance(content, dict) or "defaults" in content else content

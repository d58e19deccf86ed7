"""Compose one config after another that differ in options and their parameters, without Hydra for each of them.

Hydra takes 0.1 s to read the defaults list, the files and the overrides. In a search all trials have the same defaults
and differ in which option file stands under a kind and in some numbers there: the file is put under the kind, the
numbers into the file. Where that is not all that Hydra would do, None says so.
"""

import copy
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?")


def divide(
    overrides: tuple[str, ...], kinds: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]] | None:
    """Sort overrides into options by kind, texts by path below a kind, and all others.

    None where one comes twice, or where one says something else of a kind: then their order counts.
    """
    options: dict[str, str] = {}
    values: dict[str, str] = {}
    others = []
    for text in overrides:
        name, _, value = text.partition("=")
        kind, dot, parameter = name.partition(".")
        if name in options or name in values:
            return None
        if name in kinds:
            options[name] = value
        elif kind in kinds and dot and PATH.fullmatch(parameter):
            values[name] = value
        elif kind.lstrip("+~") in kinds:
            return None
        else:
            others.append(text)
    return options, values, tuple(others)


def assemble(
    base: Mapping[str, Any],
    chosen: Mapping[str, str | None],
    options: Mapping[str, str],
    values: Mapping[str, str],
    path: Callable[[str, str], Path | None],
    parse: Callable[[str], Any],
) -> DictConfig | None:
    """Put option files and values into a composed config whose interpolations are not resolved yet.

    `path` finds the file of (kind, option), `parse` reads one override. None where a file has a defaults list or a
    package of its own, where `base` does not hold its options as their files have them, and for a key that is new.
    """
    content = dict(base)
    for kind, option in options.items():
        before, now = _file(path(kind, str(chosen.get(kind)))), _file(path(kind, option))
        if now is None or before is None or content.get(kind) != before:
            return None
        content[kind] = now
    content = copy.deepcopy(content)
    for name, text in values.items():
        *above, parameter = name.split(".")
        node: Any = content
        for step in above:
            node = node.get(step) if isinstance(node, dict) else None
        if not isinstance(node, dict) or parameter not in node or isinstance(node[parameter], dict):
            return None
        value = _number(text) if NUMBER.fullmatch(text) else parse(f"{name}={text}").value()
        if not isinstance(value, int | float | str | None) or "${" in str(value):
            return None
        node[parameter] = value
    cfg = OmegaConf.create(content)
    OmegaConf.set_struct(cfg, True)
    OmegaConf.resolve(cfg)
    return cfg


def _number(text: str) -> int | float:
    return float(text) if "." in text or "e" in text else int(text)


@lru_cache(maxsize=1024)
def _file(path: Path | None) -> dict[str, Any] | None:
    """An option file as plain data; None where it is more than its own node."""
    if path is None or "@package" in path.read_text(encoding="utf-8"):
        return None
    content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return None if not isinstance(content, dict) or "defaults" in content else content

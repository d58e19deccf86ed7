"""best.yaml: a config of options and values on top of train.yaml, which `make best` writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denoise.config import limits, plain
from denoise.config.compose import defaults, is_group
from denoise.config.legal import exists
from denoise.config.overrides import own_part
from denoise.config.parse import names_parts, parse, quoted
from denoise.errors import UserError


def content(overrides: Sequence[str]) -> dict[str, Any]:
    """The config file that chooses and sets the same, on top of train.yaml."""
    groups: list[dict[str, Any]] = []
    values: dict[str, Any] = {}
    for override in map(parse, overrides):
        if is_group(override):
            groups.append({_choice(override.get_key_element().lstrip("+")): override.value()})
            continue
        *path, last = override.key_or_group.split(".")
        node = values
        for name in path:
            node = node.setdefault(name, {})
        node[last] = override.value()
    return {"defaults": ["train", *groups, "_self_"], **values}


def _choice(place: str) -> str:
    """A place in the defaults of a file: no file before chooses for a part that the model names."""
    return f"/{place}" if own_part(place) else f"override /{place}"


def read(path: Path) -> list[str]:
    """The choices and values of a best.yaml as overrides. Errors: UserError."""
    content = plain.read(path)
    choices = content.pop("defaults", None) if isinstance(content, dict) else None
    if not isinstance(choices, list) or choices[:1] != ["train"] or choices[-1:] != ["_self_"]:
        raise UserError(f"{path}: not a best.yaml, which begins with defaults: [train, ..., _self_]")
    groups = []
    for each in choices[1:-1]:
        name, option = next(iter(each.items())) if isinstance(each, dict) and len(each) == 1 else ("", None)
        place = str(name).partition("/")[2]
        if not place or name != _choice(place):
            raise UserError(f"{path}: {each} in its defaults; legal: override /KIND: OPTION")
        groups.append(f"{place}={_text(option)}")
    values = [(name, f"{name}={_text(value)}") for name, value in _leaves(content, "")]
    groups += [f"+{text}" for _, text in values if names_parts(parse(text))]
    cfg = defaults(groups).cfg
    others = [(name, text) for name, text in values if f"+{text}" not in groups]
    return [*groups, *(text if exists(cfg, name) else f"+{text}" for name, text in others)]


def _leaves(node: dict[str, Any], above: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in node.items():
        path = f"{above}{name}"
        found += _leaves(value, f"{path}.") if isinstance(value, dict) and value else [(path, value)]
    return found


def _text(value: Any) -> str:
    """A value as it is typed, so that it is read as the same one."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, str):
        return value if not value.startswith("[") and limits.as_value(value) == value else quoted(value)
    return limits.as_text(value)

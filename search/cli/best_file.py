"""best.yaml as data: the choices and values of its config, as if they were typed. It chooses no code.

It lies in a store, and may be somebody else's. So its folder is no folder of components: no Python file there and no
other config is read, and it cannot allow anything.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denoise.config import limits, plain
from denoise.config.compose import defaults, quoted
from denoise.config.legal import exists
from denoise.config.overrides import key
from denoise.errors import UserError
from search.console.printed_commands import named
from search.tracking.record import check_overrides

NAME = "best"  # of --config-name


def folder(given: Sequence[Path]) -> Path:
    """The last of the folders that holds best.yaml. Errors: UserError where none does."""
    for place in reversed(given):
        if (place.expanduser() / f"{NAME}.yaml").is_file():
            return place
    said = ", ".join(map(str, given)) or "none was given"
    raise UserError(
        f"--config-name {NAME}: no {NAME}.yaml in the folders of --config-dir ({said}); {named('best')} writes it"
    )


def beneath(path: Path, typed: Sequence[str]) -> list[str]:
    """The overrides of best.yaml, then those typed; without those of keys, and below options, that were typed.

    Errors: UserError for what is no list of choices with values, or would choose code.
    """
    keys = {key(text) for text in typed}
    keys |= {each.partition("@")[2] for each in keys if "@" in each}
    within = tuple(f"{each}." for each in keys)
    return [*(text for text in read(path) if key(text) not in keys and not key(text).startswith(within)), *typed]


def read(path: Path) -> list[str]:
    """The choices and values of best.yaml as overrides. Errors: UserError."""
    content = plain.read(path)
    choices = content.pop("defaults", None) if isinstance(content, dict) else None
    if not isinstance(choices, list) or choices[:1] != ["train"] or choices[-1:] != ["_self_"]:
        raise UserError(
            f"{path}: not a best.yaml as {named('best')} writes it, which begins with defaults: [train, ..., _self_]"
        )
    groups = []
    for each in choices[1:-1]:
        name, option = next(iter(each.items())) if isinstance(each, dict) and len(each) == 1 else ("", None)
        if not str(name).startswith("override /"):
            raise UserError(f"{path}: {each} in its defaults; legal: override /KIND: OPTION")
        groups.append(f"{name.removeprefix('override /')}={_text(option)}")
    values = [(name, f"{name}={_text(value)}") for name, value in _leaves(content, "")]
    check_overrides([*groups, *(text for _, text in values)], str(path))
    cfg = defaults(groups).cfg
    return [*groups, *(text if exists(cfg, name) else f"+{text}" for name, text in values)]


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

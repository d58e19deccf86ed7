"""What is read from files and records as data: YAML with no cleverness, and text in which nothing is looked up.

Refused in YAML are aliases, a key that stands twice, and what is nested deeper or is longer than any config. Refused in
text are OmegaConf's resolvers, ${oc.env:X}: they read what is no part of a config. ${trainer.val_every}, another place
in the same config, is legal.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from denoise.errors import UserError

DEEP, LONG = 50, 200_000  # what is longer takes OmegaConf seconds for each 100,000 characters
OPENED = re.compile(r"\$\{(?![\w.\[\]]+\})")  # an interpolation that is more than a path


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as OmegaConf reads it: 1e-5 is a number, 2020-01-01 a word; and no key may stand twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise yaml.YAMLError(f"{next(key for key in keys if keys.count(key) > 1)} stands twice")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [each for each in found if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, found in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def read(path: Path) -> Any:
    """Read a YAML file in which nothing is looked up. Errors: UserError, naming it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({error})") from error
    return load(text, str(path))


def load(text: str, where: str) -> Any:
    """Read YAML in which nothing is looked up. Errors: UserError."""
    try:
        _check(text)
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits
        raise UserError(f"{where}: cannot be read as YAML ({' '.join(str(error).split())[:160]})") from error
    _check_values(content, where)
    check_text(content, where)
    return content


def _check_values(node: Any, where: str) -> None:
    """Refuse what no config can hold: a key that is no word, a value by a tag of YAML's (!!binary, !!set)."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if not isinstance(key, str):
            raise UserError(f"{where}: the key {key} is no word; write a name, or leave it out")
        _check_values(value, where)
    if isinstance(node, list):
        for value in node:
            _check_values(value, where)
    elif not isinstance(node, dict | str | int | float | None):
        raise UserError(
            f"{where}: {str(node)[:80]} is a {type(node).__name__}; words, numbers, true, false, null, lists and "
            "mappings are legal"
        )


def _check(text: str) -> None:
    if len(text) > LONG:
        raise yaml.YAMLError(f"{len(text)} characters; {LONG} are legal")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEP:
            raise yaml.YAMLError(f"nested deeper than {DEEP}")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"the alias *{event.anchor}: write out what it stands for")


def check_text(node: Any, where: str, typed: str = "") -> None:
    """Refuse text in which a resolver stands, however deep, but for what was typed. Errors: UserError."""
    if isinstance(node, dict):
        node = [*node.keys(), *node.values()]
    for value in node if isinstance(node, list) else ():
        check_text(value, where, typed)
    for found in OPENED.finditer(node) if isinstance(node, str) else ():
        whole = found[0] + node[found.end() :].partition("}")[0]
        if whole not in typed:
            raise UserError(f"{where}: {whole[:80]}}} is looked up in no file and no record; write the value instead")

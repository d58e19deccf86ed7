"""A composed config as YAML to be read: with the comments of the files that it comes from, without their limits."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from denoise.config import catalog
from denoise.config.compose import Composed, as_yaml

LEFT_OUT = ("limits", "words", "expects", "needs", "control")  # what a value may be: a wrong one is answered with that
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w@.]+):(?P<value>.*)")
COMMENT = re.compile(r"(?:^|\s)#\s*(?P<text>.*)$")
COLUMN = 40  # of the comments
FURTHER = " " * 12  # before the second line of a comment


def commented(composed: Composed, root: str) -> str:
    """The config as YAML: each key with its comment, each option with what its file says in its first line."""
    said = comments(composed, root)
    return "\n".join(_line(line, said.get(path, "")) for path, line in _paths(as_yaml(_plain(composed.cfg))))


def comments(composed: Composed, root: str) -> dict[str, str]:
    """Path -> what the files say of it."""
    return dict(_comments(composed, root))


def _plain(cfg: Any) -> Any:
    def without(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return {name: without(value) for name, value in node.items() if name not in LEFT_OUT}

    return without(OmegaConf.to_container(cfg))


def _comments(composed: Composed, root: str) -> Iterator[tuple[str, str]]:
    """(path, comment) of every file that the config is made of, those beneath another first."""
    for name in ("train", root):
        if (file := _file(f"{name}.yaml")) is not None:
            yield from _of_file(file, "")
    for at, option in composed.choices.items():
        group, _, place = at.partition("@")
        if option is None or (file := _file(f"{group}/{option}.yaml")) is None:
            continue
        for beneath in (*_beneath(file), file):
            yield from _of_file(beneath, f"{place or at}.")
        yield place or at, f"{option}: {_first(file)}"


def _file(name: str) -> Path | None:
    return next((folder / name for folder in catalog.folders() if (folder / name).exists()), None)


def _beneath(file: Path) -> list[Path]:
    """The files of its own group that an option begins with."""
    found = re.search(r"^defaults: \[(.*?)\]", file.read_text(encoding="utf-8"), re.MULTILINE)
    names = [] if found is None else [name.strip() for name in found[1].split(",")]
    return [path for name in names if (path := file.with_name(f"{name}.yaml")).exists()]


def _first(file: Path) -> str:
    """What an option's file says of itself in its first line."""
    line = file.read_text(encoding="utf-8").partition("\n")[0]
    return line.lstrip("# ") if line.startswith("#") else ""


def _of_file(file: Path, prefix: str) -> Iterator[tuple[str, str]]:
    found: dict[str, str] = {}
    last = ""  # the key whose comment may go on in the next line
    for path, line in _paths(file.read_text(encoding="utf-8")):
        comment = COMMENT.search(_unquoted(line))
        if path:
            last = path if comment else ""
        if last and comment and (path or line.startswith(FURTHER)):
            found[last] = f"{found[last]} {comment['text']}" if last in found else comment["text"]
    yield from ((prefix + path, text) for path, text in found.items())


def _unquoted(line: str) -> str:
    """The line without what stands in quotes, in which # begins no comment."""
    return re.sub(r"""'[^']*'|"[^"]*\"""", "", line)


def _paths(text: str) -> Iterator[tuple[str, str]]:
    """The lines of YAML, each with the path of the key that it gives; empty where it gives none."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            yield "", line
            continue
        indent = len(found["indent"])
        above = [each for each in above if each[0] < indent] + [(indent, found["key"])]
        yield ".".join(key for _, key in above), line


def _line(line: str, comment: str) -> str:
    return f"{line:<{COLUMN - 2}}  # {comment}" if comment else line

"""key=value arguments of a command, read by hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from denoise.errors import UserError, choose


def read(arguments: Sequence[str], defaults: Mapping[str, Any], readers: Mapping[str, Callable[[str], Any]]) -> Any:
    """Read key=value arguments over `defaults`; readers[key] reads a value. Errors: UserError, one line."""
    found = dict(defaults)
    for text in arguments:
        key, sign, value = text.partition("=")
        if not sign:
            raise UserError(f"{text}: not an argument; write key=value, such as {example(defaults)}")
        if key not in readers:
            raise UserError(f"{text}: unknown; {choose(key, readers)}")
        try:
            found[key] = readers[key](value)
        except ValueError as error:
            raise UserError(f"{text}: {error}") from error
    return found


def example(defaults: Mapping[str, Any]) -> str:
    """The first argument at its default, as it can be typed."""
    key, value = next(iter(defaults.items()))
    return f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"


def one_of(*legal: str) -> Callable[[str], str]:
    """Make a reader of one word among `legal`."""

    def reader(value: str) -> str:
        if value not in legal:
            raise ValueError(choose(value, legal))
        return value

    return reader


def some_of(*legal: str) -> Callable[[str], tuple[str, ...]]:
    """Make a reader of words among `legal` with commas between them, each once, in the order of `legal`."""

    def reader(value: str) -> tuple[str, ...]:
        names = value.split(",")
        for name in names:
            if name not in legal:
                raise ValueError(f"no {name!r}; {choose(name, legal)}, with commas between them")
        return tuple(name for name in legal if name in names)

    return reader


def at_least(low: int) -> Callable[[str], int]:
    """Make a reader of a whole number from `low` on."""

    def reader(value: str) -> int:
        if not value.isdecimal() or int(value) < low:
            raise ValueError(f"must be a whole number of {low} or more")
        return int(value)

    return reader

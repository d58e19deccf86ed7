"""Hydra overrides as one value, asked for by their keys. Light: it is needed before what takes seconds to import."""

import re
from collections.abc import Container, Mapping, Sequence
from functools import cached_property

RANKS = ("residual", "transformer", "embedding")  # parts that every network may have; others have names of the user's
OF_PART = ("activation", "normalization", "weight_normalization", "initializer")  # kinds that are chosen for a part
CHOICE = re.compile(rf"[+~]*({'|'.join(OF_PART)})@parts\.(\w+)\.\1(=.*)?", re.DOTALL)


def key(text: str) -> str:
    """What an override sets: optimizer.lr, activation, activation@parts.residual.activation."""
    return text.lstrip("+~").partition("=")[0]


def own_part(text: str) -> str:
    """The part of the user's own that an override chooses a component for; "" for any other override."""
    match = CHOICE.fullmatch(text)
    return match[2] if match and match[2] not in RANKS else ""


class Overrides(tuple[str, ...]):
    """Hydra overrides in the order in which they were typed. What they say is checked by `compose`."""

    @cached_property
    def values(self) -> dict[str, str]:
        """What is set, as it is typed; the last one of a key counts."""
        return {key(text): text.partition("=")[2] for text in self}

    def without(self, keys: Container[str]) -> "Overrides":
        """Those that set none of these keys."""
        return Overrides(text for text in self if key(text) not in keys)

    def only(self, keys: Container[str]) -> "Overrides":
        """Those that set one of these keys."""
        return Overrides(text for text in self if key(text) in keys)

    def over(self, given: Sequence[str]) -> "Overrides":
        """What is given, less what these set, then these."""
        return Overrides((*Overrides(given).without(self.values), *self))

    def with_values(self, values: Mapping[str, object]) -> "Overrides":
        """The same with these values, which stand last."""
        return Overrides(f"{name}={value}" for name, value in values.items()).over(self)

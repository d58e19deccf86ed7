"""Hydra overrides as one value, asked for by their keys. Light: it is needed before what takes seconds to import."""

from collections.abc import Container, Mapping, Sequence
from functools import cached_property


def key(text: str) -> str:
    """What an override sets: optimizer.lr, activation, activation@parts.residual.activation."""
    return text.lstrip("+~").partition("=")[0]


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

"""An initializer's second stage: what it can do only once the whole network stands."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn


@dataclass(frozen=True)
class Scope:
    """What a stage may touch.

    modules: those of its parts, by their names in the backbone; zeroed: the layers that start at zero.
    """

    modules: Mapping[str, nn.Module]
    zeroed: Set[nn.Module]


@dataclass(frozen=True)
class Report:
    """What a stage did: in one line, the names that it set, and the names that it did not with the reason of each.

    sha256: of the file that it read, where it read one.
    """

    summary: str
    taken: Sequence[str] = ()
    left: Sequence[tuple[str, str]] = ()
    sha256: str = ""

    def text(self) -> str:
        """All of it, a name a line."""
        lines = [self.summary, "", "taken:", *self.taken, "", "not taken:"]
        return "\n".join([*lines, *(f"{name}: {reason}" for name, reason in self.left), ""])


class Stage(Protocol):
    """What an initializer returns for a weight where more is to be done; equal stages are done once, together.

    needs_batch: whether it looks at what flows through the network, and so comes after those that do not.
    """

    needs_batch: bool

    def finish(self, denoiser: Any, batch: tuple[Any, ...], scope: Scope) -> Report:
        """Do it, in place. `batch` is what denoiser.loss takes. Errors: UserError."""

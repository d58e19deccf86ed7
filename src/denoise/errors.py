"""A refusal: one line that names the bad value, the legal values and the fix."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What the user asked for cannot be done; the message is the one line they see (exit status 2)."""


def choose(value: str, legal: Iterable[str]) -> str:
    """Say which values are legal, the nearest to `value` first where one is near."""
    names = list(legal)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}legal: {', '.join(names) if names else 'none'}"

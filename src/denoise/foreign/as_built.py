"""The option `as_built`: the model's own stays. It makes nothing, and only a model that brings its own can have it."""

from collections.abc import Mapping
from typing import Any

from denoise.errors import UserError


def as_built(*args: Any, **kwargs: Any) -> Any:
    """Make nothing. Errors: UserError, where it is asked to."""
    raise UserError(
        "as_built: leaves what a model of your own has, model=mine, model=diffusers or model=lightning; take another "
        "option"
    )


def is_as_built(node: Mapping[str, Any] | None) -> bool:
    """Whether a composed option is `as_built`."""
    return node is not None and node.get("_target_") == f"{__name__}.{as_built.__name__}"

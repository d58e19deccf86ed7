"""What was typed, as the config of a search. Light: it is read before what takes seconds to import."""

from collections.abc import Sequence

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from denoise.config.compose import Composed, compose, next_compose
from denoise.config.overrides import Overrides
from denoise.errors import UserError


def read(typed: Sequence[str]) -> tuple[Composed, Overrides]:
    """Compose a search: its config, and all the overrides that make it. Errors: UserError."""
    given = Overrides(typed)
    overrides = given.over(_brought(given.only(("search", "search.overrides"))))
    return compose(overrides, "search"), overrides


def _brought(of_search: Sequence[str]) -> Sequence[str]:
    """The overrides that a search brings; the check takes as long again, and finds nothing where this composes."""
    try:
        found = next_compose(tuple(of_search), "search").cfg.search.overrides
        if OmegaConf.is_list(found) and all(isinstance(text, str) for text in found):
            return list(found)
    except (UserError, OmegaConfBaseException):
        pass
    return list(compose(of_search, "search").cfg.search.overrides)

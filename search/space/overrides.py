"""What a person typed, as the config of a search. Light: it is read before what takes seconds to import."""

from collections.abc import Sequence

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from denoise.config.compose import Composed, compose, next_compose, parse
from denoise.errors import Refusal


def read(typed: Sequence[str]) -> tuple[Composed, list[str]]:
    """Compose a search: its config, and all the overrides that make it. Errors: Refusal."""
    of_search = [text for text in typed if parse(text).key_or_group in ("search", "search.overrides")]
    overrides = beneath(_brought(of_search), typed)
    return compose(overrides, "search"), overrides


def _brought(of_search: Sequence[str]) -> Sequence[str]:
    """The overrides that a search brings; the check takes as long again, and finds nothing where this composes."""
    try:
        found = next_compose(tuple(of_search), "search").cfg.search.overrides
        if OmegaConf.is_list(found) and all(isinstance(text, str) for text in found):
            return list(found)
    except (Refusal, OmegaConfBaseException):
        pass
    return list(compose(of_search, "search").cfg.search.overrides)


def beneath(given: Sequence[str], typed: Sequence[str]) -> list[str]:
    """The overrides that a search brings, without those of the keys that a person typed, before the person's."""
    keys = {parse(text).key_or_group for text in typed}
    return [*(str(text) for text in given if parse(str(text)).key_or_group not in keys), *typed]

"""What was typed, as the config of a search. Light: it is read before what takes seconds to import."""

from collections.abc import Sequence

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from denoise.config import catalog
from denoise.config.compose import Composed, compose, next_compose, parse
from denoise.errors import UserError


def read(typed: Sequence[str]) -> tuple[Composed, list[str]]:
    """Compose a search: its config, and all the overrides that make it. Errors: UserError."""
    of_search = [text for text in typed if parse(text).key_or_group in ("search", "search.overrides")]
    overrides = beneath(_brought(of_search), typed)
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


def beneath(given: Sequence[str], typed: Sequence[str]) -> list[str]:
    """The overrides that a search brings, less those of the keys that were typed, then what was typed."""
    keys = {parse(text).key_or_group for text in typed}
    return [*(str(text) for text in given if parse(str(text)).key_or_group not in keys), *typed]


def difference(overrides: Sequence[str], baseline: Sequence[str]) -> str:
    """Name what differs from the baseline: gelu, lion lr 0.0012, ...; "baseline" where nothing does."""
    theirs = set(baseline)
    values = dict(text.partition("=")[::2] for text in overrides)
    shown: list[str] = []
    for kind in catalog.KINDS:
        option = values.get(kind)
        changed = [
            f"{name.partition('.')[2]} {short(value)}"
            for name, value in values.items()
            if name.startswith(f"{kind}.") and f"{name}={value}" not in theirs
        ]
        if option is not None and f"{kind}={option}" not in theirs:
            shown.append(" ".join([option if option != "none" else f"no {kind}", *changed]))
        elif changed:
            shown.append(" ".join([kind, *changed]))
    for name, value in values.items():
        if name.split(".")[0] in catalog.KINDS or f"{name}={value}" in theirs or name == "trainer.num_threads":
            continue
        kind, at, place = name.partition("@")
        shown.append(f"{value} in {place.split('.')[1]}" if at else f"{name} {short(value)}")
    return ", ".join(shown) or "baseline"


def short(value: str) -> str:
    """Three digits of a number; anything else as it is."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value

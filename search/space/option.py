"""What a config has for a choice, and in what it differs from another."""

from collections.abc import Sequence

from denoise.config import catalog
from denoise.config.overrides import Overrides

COUNTED = ("trainer.max_steps", "trainer.num_threads")  # what a search sets for all or by the clock


def option_of(overrides: Sequence[str], choice: str, baseline: Sequence[str]) -> str:
    """What a trial has for a choice: its own override, the baseline's, or for a part what the main choice is."""
    for name in (choice, choice.partition("@")[0]):
        for given in (overrides, baseline):
            if name in (values := Overrides(given).values):
                return values[name]
    return "as configured"


def differs_alone(
    overrides: Sequence[str], choice: str, baseline: Sequence[str], asked: Sequence[str] | None = None
) -> bool:
    """Whether a config differs from the baseline in a choice and its parameters only, of those that are `asked` about.

    How many steps and threads a trial had is no difference.
    """
    mine, theirs = Overrides(overrides).values, Overrides(baseline).values
    place = choice.partition("@")[2] or choice
    return not any(
        mine.get(name) != theirs.get(name)
        for name in mine.keys() | theirs.keys()
        if name not in (choice, *COUNTED) and not name.startswith(f"{place}.") and (asked is None or name in asked)
    )


def difference(overrides: Sequence[str], baseline: Sequence[str]) -> str:
    """Name what differs from the baseline: gelu, lion lr 0.0012, ...; "baseline" where nothing does."""
    theirs = Overrides(baseline).values
    changed = {name: value for name, value in Overrides(overrides).values.items() if theirs.get(name) != value}
    shown: list[str] = []
    for kind in catalog.KINDS:
        option = changed.pop(kind, None)
        of_kind = [name for name in changed if name.startswith(f"{kind}.")]
        parameters = [f"{name.partition('.')[2]} {short(changed.pop(name))}" for name in of_kind]
        if option is not None:
            shown.append(" ".join([option if option != "none" else f"no {kind}", *parameters]))
        elif parameters:
            shown.append(" ".join([theirs.get(kind, kind), *parameters]))
    changed.pop("trainer.num_threads", None)
    for name, value in changed.items():
        _, at, place = name.partition("@")
        shown.append(f"{value} in {place.split('.')[1]}" if at else f"{name} {short(value)}")
    return ", ".join(shown) or "baseline"


def short(value: str) -> str:
    """Three digits of a number; anything else as it is."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value

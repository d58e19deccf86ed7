"""What a config has for a choice, and whether that is all in which it differs from another."""

from collections.abc import Sequence

COUNTED = ("trainer.max_steps", "trainer.num_threads")  # what a search sets for all or by the clock


def option_of(overrides: Sequence[str], choice: str, baseline: Sequence[str]) -> str:
    """What a trial has for a choice: its own override, the baseline's, or for a part what the main choice is."""
    for name in (choice, choice.partition("@")[0]):
        for given in (overrides, baseline):
            values = dict(text.lstrip("+").partition("=")[::2] for text in given)
            if name in values:
                return values[name]
    return "as configured"


def differs_alone(
    overrides: Sequence[str], choice: str, baseline: Sequence[str], asked: Sequence[str] | None = None
) -> bool:
    """Whether a config differs from the baseline in a choice and its parameters only, of those that are `asked` about.

    How many steps and threads a trial had is no difference.
    """
    mine, theirs = (dict(text.lstrip("+").partition("=")[::2] for text in given) for given in (overrides, baseline))
    place = choice.partition("@")[2] or choice
    return not any(
        mine.get(name) != theirs.get(name)
        for name in mine.keys() | theirs.keys()
        if name not in (choice, *COUNTED) and not name.startswith(f"{place}.") and (asked is None or name in asked)
    )

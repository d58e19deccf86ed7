"""best.yaml as data: the choices and values of its config, as if they were typed. It chooses no code.

It lies in a store, and may be somebody else's. So its folder is no folder of components: no Python file there and no
other config is read, and it cannot allow anything.
"""

from collections.abc import Sequence
from pathlib import Path

from denoise import best_file
from denoise.config.overrides import Overrides, key
from denoise.errors import UserError
from search.console.printed_commands import named
from search.tracking.record import check_overrides

NAME = "best"  # of --config-name
HOSTED = ("mine", "diffusers", "lightning")  # models that bring their own components


def folder(given: Sequence[Path]) -> Path:
    """The last of the folders that holds best.yaml. Errors: UserError where none does."""
    for place in reversed(given):
        if (place.expanduser() / f"{NAME}.yaml").is_file():
            return place
    said = ", ".join(map(str, given)) or "none was given"
    raise UserError(
        f"--config-name {NAME}: no {NAME}.yaml in the folders of --config-dir ({said}); {named('best')} writes it"
    )


def beneath(path: Path, typed: Sequence[str]) -> list[str]:
    """The overrides of best.yaml, then those typed; without those of keys, and below options, that were typed.

    Errors: UserError for what is no list of choices with values, or would choose code.
    """
    keys = {key(text) for text in typed}
    keys |= {each.partition("@")[2] for each in keys if "@" in each}
    within = tuple(f"{each}." for each in keys)
    return [*(text for text in read(path) if key(text) not in keys and not key(text).startswith(within)), *typed]


def read(path: Path) -> list[str]:
    """The choices and values of best.yaml as overrides. Errors: UserError for what would choose code, too."""
    found = best_file.read(path)
    check_overrides(found, str(path))
    return found


def in_a_script(config: Sequence[str], path: Path) -> list[str]:
    """How a script of the user's own does the same to a model of their own; nothing for a model of this project."""
    model = Overrides(config).values.get("model")
    if model not in HOSTED:
        return []
    more = ", batch=batch" * (model == "lightning")
    return [f'# in your own script: import denoise; print(denoise.apply(model, "{path}"{more}).text())']

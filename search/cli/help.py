"""What a verb takes, and what a config is made of: as it is asked for with --help and --info."""

import argparse
from collections.abc import Iterable, Mapping

from omegaconf import DictConfig

from denoise.config import catalog
from denoise.config.compose import Composed, compose
from search.cli.commented import commented, comments
from search.console.printed_commands import WHERE, door, make
from search.console.redact import printable
from search.console.tables import wrapped

WIDTH = 100
CONFIG = {"search": "search", "train": "train", "inspect": "train", "sites": "train"}  # verbs that take all of a config
NAMES = 22  # columns of a name


def of_verb(verb: str, what: str, flags: Mapping[str, str]) -> str:
    """What a verb does, the flags that it takes, its groups with their options, its keys with what each means."""
    typed = f"{door()} {verb} " + ('ARGS="KEY=VALUE ..."' if door() == "make" else "KEY=VALUE ...")
    said = [f"usage: {typed}", f"  {what}", ""]
    said += ["flags:", *_named(flags.items()), ""]
    composed = compose((), CONFIG.get(verb, "train"))
    if verb in CONFIG:
        said += ["groups, GROUP=OPTION (the default first):", *groups(composed), ""]
    said += ["keys, KEY=VALUE:", *_keys(composed, verb)]
    if verb in CONFIG:
        said += [f"  and those of each option: {make(verb, ['--cfg'])} shows all of them, with what each means"]
    return "\n".join(said)


def groups(composed: Composed) -> list[str]:
    """A line or more a group: what is chosen, then what else is legal."""
    said: list[tuple[str, str]] = []
    for group, option in reversed(composed.choices.items()):  # as the files have them
        if "@" not in group and option is not None:
            others = [name for name in sorted(_options(group)) if name != option]
            said.append((group, f"{option}{': ' if others else ''}{', '.join(others)}"))
    return _named(said)


def _named(said: Iterable[tuple[str, str]]) -> list[str]:
    """Names, and beside each what there is to say of it, folded."""
    lines = []
    for name, text in said:
        first, *more = wrapped(text, WIDTH - NAMES - 2) or [""]
        lines += [f"  {name:<{NAMES}}{first}".rstrip(), *(" " * (NAMES + 2) + line for line in more)]
    return lines


def _options(group: str) -> set[str]:
    return {path.stem for folder in catalog.folders() for path in (folder / group).glob("*.yaml")}


def _keys(composed: Composed, verb: str) -> list[str]:
    said = comments(composed, CONFIG.get(verb, "train"))
    if verb not in CONFIG:
        return _named((name, said.get(name, "")) for name in WHERE)
    nodes = [("", composed.cfg)] + ([("search.", composed.cfg.search)] if verb == "search" else [])
    names = [f"{at}{key!s}" for at, node in nodes for key, value in node.items() if not isinstance(value, DictConfig)]
    return _named((name, said.get(name, "")) for name in names if not name.endswith("_target_"))


def shown(options: argparse.Namespace, root: str) -> None:
    """Print the config where --cfg or --info asks for it, and exit with 0."""
    if options.cfg or options.info:
        composed = compose(options.overrides, root)
        print(printable(commented(composed, root) if options.cfg else of_config(composed)))
        raise SystemExit(0)


def of_config(composed: Composed) -> str:
    """Which option each group has, from which file, and where options are looked for."""
    said = ["options are looked for in: " + ", ".join(str(folder) for folder in catalog.folders())]
    for at, option in reversed(composed.choices.items()):
        group = at.partition("@")[0]
        homes = [folder for folder in catalog.folders() if (folder / group / f"{option}.yaml").exists()]
        if option is not None and homes:
            said.append(f"{at:<{NAMES}}{option:<{NAMES}}{homes[0] / group / f'{option}.yaml'}")
    return "\n".join(said)

"""From the user's overrides to a checked config: Hydra composes, and what it would accept silently is refused."""

import copy
import difflib
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf._utils import get_omega_conf_dumper  # private, of 2.3.1: OmegaConf.to_yaml takes 24 ms, this 6
from omegaconf.errors import OmegaConfBaseException

from denoise.config import catalog, fast_compose, keys, limits, plain
from denoise.config.legal import ELSEWHERE, check_domains, check_type, named_parts, select, takes_list
from denoise.config.legal import exists as is_key
from denoise.config.legal import leaves as leaves
from denoise.config.overrides import OF_PART, own_part
from denoise.config.parse import DOMAIN, added, names_parts, readable, replacing
from denoise.config.parse import parse as parse
from denoise.config.parse import quoted as quoted
from denoise.errors import UserError, choose

# Mappings whose keys the user may add and take away
OPEN = ("search.kinds.", "search.domains.", "model.kwargs.", "model.parts.")


@dataclass(frozen=True)
class Composed:
    """A config, and which option each group has (None: none chosen)."""

    cfg: DictConfig
    choices: dict[str, str | None]


def compose(overrides: Sequence[str] = (), root: str = "train") -> Composed:
    """Compose `root` with Hydra overrides and check them. Errors: UserError, one line that names the fix.

    Refused: what Hydra cannot read, unknown groups, options and keys (the nearest name is said), a value of
    another type than the default's, and a component's parameter outside its declared domain.
    """
    parsed = [parse(text) for text in overrides]
    base = _checked_options(overrides, root)
    if len(catalog.folders()) > 1 and not OmegaConf.missing_keys(base.cfg):
        _check_keys(base, root)
    for override in parsed:
        if not is_group(override) and not names_parts(override):
            _check_value(override, base)
    composed = next_compose(tuple(str(p.input_line) for p in parsed), root)
    if len(catalog.folders()) > 1:  # what comes of this project's files and what was typed has been checked
        if missing := sorted(OmegaConf.missing_keys(composed.cfg)):
            raise UserError(f"{missing[0]}=???: has no value; write one into its file, null for none")
        _check_keys(composed, root)
    check_domains(composed.cfg)
    return composed


def _checked_options(overrides: Sequence[str], root: str) -> Composed:
    """The config of the options alone, each checked: first those that say which places there are."""
    groups = [text for text in overrides if is_group(parse(text))]
    first = [text for text in groups if not own_part(text)]
    naming = [text for text in overrides if names_parts(parse(text))]
    for text in first:
        _check_option(parse(text), _compose((), root, catalog.folders()).choices)
    for i, text in enumerate(naming):
        _check_value(parse(text), _read_only((*first, *naming[:i]), root, catalog.folders()))
    base = _read_only((*first, *naming), root, catalog.folders())
    own = [text for text in groups if own_part(text)]
    for text in own:
        _check_option(parse(text), base.choices)
    return _read_only((*first, *naming, *own), root, catalog.folders()) if own else base


def _check_keys(composed: Composed, root: str) -> None:
    own = {at: _is_own(at.partition("@")[0], option) for at, option in composed.choices.items()}
    keys.check(composed.cfg, composed.choices, root, own)


def defaults(overrides: Sequence[str], root: str = "train") -> Composed:
    """Compose the options that overrides choose, at the values of their files."""
    return next_compose(tuple(t for t in overrides if is_group(parse(t)) or names_parts(parse(t))), root)


@lru_cache(maxsize=64)
def _read_only(options: tuple[str, ...], root: str, folders: tuple[Path, ...]) -> Composed:
    return next_compose(options, root)


def notes(composed: Composed, searched: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """What the user should know of a legal config, a line each; `searched`, options by kind, count as chosen."""
    chosen = [(at.partition("@")[0], option) for at, option in composed.choices.items() if option]
    chosen += [(kind, option) for kind, options in (searched or {}).items() for option in options]
    found = []
    for kind, option in dict.fromkeys(pair for pair in chosen if pair[0] in catalog.KINDS):
        for path, expected in catalog.entry(kind, option).expects.items():
            value = select(composed.cfg, path)
            if value is not None and value < expected["low"]:
                found.append(f"note: {kind}={option} wants {path}={expected['low']} or more: {expected['why']}")
    return found


def raw_compose(overrides: tuple[str, ...], root: str = "train") -> Composed:
    """Compose without the checks, for overrides that were made or checked before."""
    found = _compose(overrides, root, catalog.folders())
    cfg = copy.deepcopy(found.cfg)
    with _refused():
        OmegaConf.resolve(cfg)
    return Composed(cfg, dict(found.choices))


def next_compose(overrides: tuple[str, ...], root: str = "train") -> Composed:
    """Compose as `raw_compose` does, quickly where the one before differs in options and in values."""
    folders = catalog.folders()
    divided = fast_compose.divide(overrides, catalog.KINDS, _groups())
    if divided is None:
        return raw_compose(overrides, root)
    options, values, others = divided
    try:
        base = _base(others, root, folders)
        own = _home(root, folders) != catalog.CONF or base.chosen.get("experiment") is not None
        cfg = None if own else fast_compose.assemble(base, options, values, _path, parse)
    except (UserError, OmegaConfBaseException, yaml.YAMLError):  # what Hydra says of the whole is what helps
        cfg = None
    return raw_compose(overrides, root) if cfg is None else Composed(cfg, {**base.chosen, **options})


def _path(kind: str, option: str) -> Path | None:
    return catalog.entry(kind, option).path if catalog.known(kind, option) else None


@lru_cache(maxsize=64)
def _base(overrides: tuple[str, ...], root: str, folders: tuple[Path, ...]) -> fast_compose.Base:
    found = _compose(overrides, root, folders)
    return fast_compose.Base(found.cfg, found.choices)


@lru_cache(maxsize=64)
def _compose(overrides: tuple[str, ...], root: str, folders: tuple[Path, ...]) -> Composed:
    """What Hydra composes, its interpolations not resolved yet; to be read only.

    The parts that the model names are places too, and what a search asks of any part (parts.*) it asks of them.
    """
    others = tuple(text for text in overrides if not own_part(text))
    found = _compose(others, root, folders) if len(others) < len(overrides) else _by_hydra(others, root, folders)
    named = named_parts(found.cfg.get("model"))
    if len(others) < len(overrides):
        found = _by_hydra(added(overrides, named), root, folders)
    choices = {f"{kind}@parts.{name}.{kind}": None for name in named for kind in OF_PART} | found.choices
    kinds = select(found.cfg, "search.kinds")
    for pattern in [str(key) for key in kinds if "*" in str(key)] if isinstance(kinds, DictConfig) else []:
        with open_dict(kinds):
            given = kinds.pop(pattern)
            kinds.update({at: given for at in fnmatch.filter(choices, pattern) if at not in kinds})
    return Composed(found.cfg, choices)


def _by_hydra(overrides: tuple[str, ...], root: str, folders: tuple[Path, ...]) -> Composed:
    GlobalHydra.instance().clear()
    primary = _home(root, folders)
    searchpath = ",".join(quoted(f"file://{folder}") for folder in folders if folder != primary)
    extra = [f"hydra.searchpath=[{searchpath}]"] if searchpath else []
    with _refused(), initialize_config_dir(version_base="1.3", config_dir=str(primary)):
        whole = [readable(each) for text in overrides for each in replacing(text)]
        cfg = hydra_compose(root, overrides=[*whole, *extra], return_hydra_config=True)
        choices = {str(k): v for k, v in cfg.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
        with open_dict(cfg):
            del cfg["hydra"]
        if primary != folders[-1] or extra:
            _check_looked_up(cfg, whole)
    return Composed(cfg, choices)


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"config: {' '.join(str(error).split())}") from error


def _check_looked_up(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Refuse a resolver (${oc.env:X}) in a config that no one typed: it came from a file."""
    content: Any = OmegaConf.to_container(cfg, resolve=False)
    plain.check_text(content, "config", " ".join(typed))


def _home(root: str, folders: tuple[Path, ...]) -> Path:
    """Where a root config lies; one of the user's own may set what stands under a kind."""
    return next((folder for folder in folders if (folder / f"{root}.yaml").exists()), folders[-1])


def as_yaml(plain: Any) -> str:
    """Plain data as OmegaConf writes it: what looks like a number and is a word is quoted."""
    return yaml.dump(
        plain, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=get_omega_conf_dumper()
    )


def is_group(override: Override) -> bool:
    """Tell a choice of an option (activation=swish) from a value (optimizer.lr=0.01)."""
    return "." not in override.key_or_group and override.key_or_group in _groups()


def _groups() -> set[str]:
    return {path.name for folder in catalog.folders() for path in folder.iterdir() if path.is_dir()}


def _names(group: str) -> list[str]:
    return sorted({path.stem for folder in catalog.folders() for path in (folder / group).glob("*.yaml")})


def _is_own(group: str, option: str | None) -> bool:
    return option is not None and not (catalog.CONF / group / f"{option}.yaml").exists()


def _check_option(override: Override, places: Mapping[str, str | None]) -> None:
    group, package = override.key_or_group, override.package
    at = group if package is None else f"{group}@{package}"
    if at not in places:
        raise UserError(f"{override.input_line}: nothing takes {at}; {choose(at, places)}")
    value, names = override.value(), _names(group)
    if value is None and places.get(at, "required") is None:
        return
    if override.is_delete() or value is None:
        raise UserError(f"{override.input_line}: a config needs its {at}; legal: {', '.join(names)}")
    if not isinstance(value, str):
        raise UserError(f"{override.input_line}: not a name; legal: {', '.join(names)}")
    if value not in names:
        raise UserError(f"{override.input_line}: unknown option; {choose(value, names)}")


def _check_value(override: Override, base: Composed) -> None:
    name, text = override.key_or_group, str(override.input_line)
    parent, _, last = name.rpartition(".")
    above = select(base.cfg, parent) if parent else base.cfg
    exists = isinstance(above, DictConfig) and last in above
    if DOMAIN.fullmatch(text) and not name.startswith(OPEN):
        _check_space(text, override.value(), name, base)
        return
    if (override.is_add() or override.is_force_add()) and not exists:
        open_ = any(name.startswith(at) and is_key(base.cfg, at.rstrip(".")) for at in OPEN)
        if not open_ and not (isinstance(above, DictConfig) and "_target_" in above):
            raise UserError(f"{text}: adds a key that nothing reads; {_no_such_key(name, base)}")
        return
    if override.is_delete() and not name.startswith(OPEN):
        raise UserError(
            f"{text}: a config needs every key; leave it at its default, or set it to null where it is null"
        )
    if isinstance(above, DictConfig) and last in above:
        default = above[last]
    elif isinstance(above, ListConfig) and last.isdigit() and int(last) < len(above):
        default = above[int(last)]
    else:
        way = f"not there yet; write +{text}" if name.startswith(OPEN[2:]) and is_key(base.cfg, parent) else ""
        raise UserError(f"{text}: {way or _no_such_key(name, base)}")
    if not override.is_delete() and not name.startswith(OPEN) and not names_parts(override):
        words = above.get("words", {}).get(last, []) if isinstance(above, DictConfig) else []
        if not (isinstance(override.value(), list) and takes_list(base.cfg, name)):
            check_type(text, override.value(), default, list(words))


def _check_space(text: str, value: Any, name: str, base: Composed) -> None:
    at, _, parameter = name.rpartition("space")
    node = select(base.cfg, at.rstrip("."))
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UserError(f"{text}: {_no_such_key(name, base)}")
    legal = [str(key) for key in node if key != "_target_" and key not in catalog.RESERVED]
    for one, given in ({parameter[1:]: value} if parameter else value).items():
        if one not in legal:
            raise UserError(f"{text}: {at}{one} is no parameter; {choose(one, legal)}")
        if not isinstance(given, dict) or not limits.is_domain(given):
            raise UserError(f"{text}: not a domain; {limits.FORM}")


def _no_such_key(name: str, base: Composed) -> str:
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    parent = name.rpartition(".")[0]
    above = select(base.cfg, parent) if parent else base.cfg
    if ".space." in parent and isinstance(above, DictConfig):
        return f"a domain of another form is typed whole: {parent}={{type:float,low:0.001,high:0.01}}"
    if parent and isinstance(above, DictConfig):
        legal = [f"{parent}.{key!s}" for key in above if key != "_target_" and key not in catalog.RESERVED]
        option = base.choices.get(parent)
        who = f"{parent} {option}" if option else parent
        return f"{who} has no such parameter; {choose(name, legal)}"
    every = [key for key, _ in leaves(base.cfg)] if "." in name else [str(key) for key in base.cfg]
    near = difflib.get_close_matches(name, every, n=1)
    if near:
        return f"no such key; did you mean {near[0]!r}?"
    return f"no such key; {choose(name.split('.')[0], [str(key) for key in base.cfg])}"

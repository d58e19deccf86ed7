"""What a config may hold at a path: the type of its default, the words and the limits that its files declare."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from denoise.config import catalog
from denoise.config.limits import DECLARED, as_text, check_domain, check_limits
from denoise.config.overrides import RANKS
from denoise.errors import UserError

KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    ((int, float), "a number"),
    (str, "a word"),
)

KEPT = ("activation", "normalization", "feed_forward", "initializer")  # of which a model that brings its own has some


def brings_its_own(model: Mapping[str, Any]) -> bool:
    """Whether a model's config is of one that knows nothing of this project: it says how it is called."""
    return "call" in model or is_lightning(model)


def is_lightning(model: Mapping[str, Any]) -> bool:
    """Whether a model's config is of a LightningModule of the user's own: it says by what it is judged."""
    return "objective" in model


ONE_DEVICE = "a training runs on one device; a search trains trials side by side, as many as search.workers says"
ELSEWHERE = dict.fromkeys(("trainer.devices", "trainer.num_nodes", "trainer.strategy"), ONE_DEVICE)  # Lightning's names
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def select(cfg: DictConfig, path: str) -> Any:
    """The value at a path; None where there is none."""
    try:
        return OmegaConf.select(cfg, path) if path else cfg
    except OmegaConfBaseException:
        return None


def exists(cfg: DictConfig, path: str) -> bool:
    """Tell whether a config has a key at a path, if only null."""
    above = select(cfg, path.rpartition(".")[0])
    return isinstance(above, DictConfig) and path.rpartition(".")[2] in above


def words_of(cfg: DictConfig, path: str) -> list[str]:
    """The words that are legal at a path beside a number."""
    above = select(cfg, path.rpartition(".")[0])
    declared = above.get("words") if isinstance(above, DictConfig) else None
    return list((declared or {}).get(path.rpartition(".")[2], []))


def limits_of(cfg: DictConfig, path: str) -> Any:
    """The limits that a node above a path declares for it; None where none does."""
    names = path.split(".")
    for depth in range(len(names)):
        node = select(cfg, ".".join(names[:depth]))
        declared = node.get("limits") if isinstance(node, DictConfig) else None
        if (found := (declared or {}).get(".".join(names[depth:]))) is not None:
            return found
    return None


def named_parts(model: Any) -> dict[str, tuple[str, ...]]:
    """The parts that the config of a network that is not ours names: patterns of module paths. Errors: UserError."""
    given = model.get("parts") if isinstance(model, Mapping) else None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UserError(f"model.parts={as_text(given)}: must map names to patterns, such as {{mid: mid_block.*}}")
    found = {}
    for name, value in given.items():
        patterns = [value] if isinstance(value, str) else value
        where = f"model.parts.{name!s}={as_text(value)}"
        if name in RANKS:
            raise UserError(f"{where}: {name} is the part of all that has its rank; take another name")
        if not NAME.fullmatch(str(name)):
            raise UserError(f"{where}: not a name; write letters, digits and _, such as mid")
        if not isinstance(patterns, list | ListConfig) or not patterns or not all(_is_word(p) for p in patterns):
            raise UserError(f"{where}: not a pattern of module paths, nor a list of such; write mid_block.*")
        found[str(name)] = tuple(patterns)
    return found


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def takes_list(cfg: DictConfig, path: str) -> bool:
    """Tell whether the limits at a path have a length: then a list of numbers is legal, though the default be one."""
    limits = limits_of(cfg, path)
    return limits is not None and limits != "text" and len(limits) == 3


def check_value(path: str, value: Any, default: Any, words: Sequence[str] = (), limits: Any = None) -> None:
    """Refuse a value of another type than the default's, or outside the limits. Errors: UserError."""
    check_type(f"{path}={as_text(value)}", value, default, words)
    if limits is not None and value is not None and value not in words:
        check_limits(path, value, limits)


def check_type(text: str, value: Any, default: Any, words: Sequence[str] = ()) -> None:
    """Refuse a value of another type than the default's; `text` is the override that says it. Errors: UserError."""
    if words:
        if isinstance(value, bool) or not (value in words or isinstance(value, int | float)):
            raise UserError(f"{text}: not legal; legal: {', '.join(words)}, or a number")
        return
    if default is None:
        return
    if isinstance(default, dict) or OmegaConf.is_dict(default):
        if not isinstance(value, dict) or not value:
            legal = ", ".join(f"{key!s}=..." for key in default) or f"+{text.partition('=')[0]}.KEY=..."
            raise UserError(f"{text}: stands for several keys{', and sets none' * (value == {})}; legal: {legal}")
        return
    if isinstance(default, list) or OmegaConf.is_list(default):
        if not isinstance(value, list):
            raise UserError(f"{text}: must be a list such as {as_text(default)}")
        return
    wanted, said = next((kind, said) for kind, said in KINDS if isinstance(default, kind))
    truth = isinstance(value, bool) and wanted is not bool
    if truth or value in (None, "") or not isinstance(value, wanted):
        raise UserError(f"{text}: must be {said}, such as {default}")


def check_domains(cfg: DictConfig) -> None:
    """Check every node against the domains and the limits that its file declares. Errors: UserError."""
    _check_node(OmegaConf.to_container(cfg), "")  # plain: OmegaConf takes ten times as long to walk


def _check_node(node: Any, prefix: str) -> None:
    for key, (legal, form) in DECLARED.items():
        declared = {} if node.get(key) is None else node[key]
        if not isinstance(declared, dict):
            raise UserError(f"{prefix}{key}={as_text(declared)}: must map parameters, such as {key}: {{beta: ...}}")
        for name, value in declared.items():
            if not legal(value):
                raise UserError(f"{prefix}{key}.{name!s}={as_text(value)}: {form}")
    words = node.get("words") or {}
    for key, check in (("space", check_domain), ("limits", check_limits)):
        for name, declared in (node.get(key) or {}).items():
            value = _at(node, str(name))
            if value is not None and value not in list(words.get(name, [])):
                check(f"{prefix}{name!s}", value, declared)
    for name, below in node.items():
        if isinstance(below, dict) and name not in (*catalog.RESERVED, "kinds", "domains"):
            _check_node(below, f"{prefix}{name!s}.")


def _at(node: Any, path: str) -> Any:
    """The value at a path of plain data; None where there is none yet."""
    for step in path.split("."):
        if isinstance(node, list) and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        else:
            node = node.get(step) if isinstance(node, dict) else None
    return None if node == "???" else node


def leaves(cfg: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """List (path, value) of everything that is not a mapping."""
    for name in cfg:
        node, path = cfg[name], f"{prefix}{name}"
        if isinstance(node, DictConfig):
            yield from leaves(node, f"{path}.")
        else:
            yield path, node

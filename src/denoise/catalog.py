"""The catalogue of components: the one reader of conf/<kind>/, where a file is an option.

An option file opens with its formula and its source as comments and declares `_target_` and the defaults of its
parameters. Five keys are the catalogue's own and never reach the target: `space` (the domain of each searched
parameter), `limits` (what is legal at all for the others: [low, high], for a list [low, high, length], or text),
`words` (words that are legal beside a number), `control: true` (an option that is there to be compared with, which a
search leaves out unless it is named) and `needs` (parameters one of which a person must give, so that a search draws
the option only where they have chosen it).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from denoise.refusal import Refusal, choose

CONF = Path(__file__).resolve().parents[2] / "conf"
KINDS = (
    "activation",
    "normalization",
    "weight_normalization",
    "initializer",
    "feed_forward",
    "optimizer",
    "lr_schedule",
)
PREFIXES = ("denoise.", "torch.", "lightning.", "optuna.", "pytorch_optimizer.", "diffusers.")
RESERVED = ("space", "words", "limits", "control", "needs")

_folders: list[Path] = [CONF]
_allowed: list[str] = list(PREFIXES)


class _Loader(yaml.SafeLoader):
    """YAML as OmegaConf reads it: 1e-5 is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    __import__("re").compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Entry:
    """One option, as its file declares it."""

    kind: str
    option: str
    path: Path
    formula: str
    source: str
    target: str
    parameters: Mapping[str, Any]
    space: Mapping[str, Mapping[str, Any]]
    control: bool
    needs: tuple[str, ...] = ()


def folders() -> tuple[Path, ...]:
    """The config folders that are read, the project's own last."""
    return tuple(_folders)


def add_folder(folder: Path, allow: tuple[str, ...] = ()) -> None:
    """Read options from `folder`/<kind>/ too, and trust targets under the prefixes in `allow`."""
    _allowed.extend(prefix for prefix in allow if prefix not in _allowed)
    if folder not in _folders:
        _folders.insert(0, folder)
        read.cache_clear()


def options(kind: str) -> list[str]:
    """List the options of `kind`: the files in its folders, in alphabetical order."""
    if kind not in KINDS:
        raise Refusal(f"{kind}: no such kind of component; {choose(kind, KINDS)}")
    return sorted({path.stem for folder in _folders for path in (folder / kind).glob("*.yaml")})


def entry(kind: str, option: str) -> Entry:
    """Read one option's file. Errors: Refusal where there is no such kind or option."""
    names = options(kind)
    if option not in names:
        raise Refusal(f"{kind}={option}: unknown option; {choose(str(option), names)}")
    return read(kind, option)


@cache
def read(kind: str, option: str) -> Entry:
    """Parse the file of an option that exists."""
    path = next(p for folder in _folders if (p := folder / kind / f"{option}.yaml").exists())
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise Refusal(f"{path}: cannot be read as YAML ({' '.join(str(error).split())[:160]})") from error
    check_form(path, content)
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    comments = [line for line in comments if not line.startswith("@package")]
    return Entry(
        kind=kind,
        option=option,
        path=path,
        formula=comments[0] if comments else "",
        source=comments[1] if len(comments) > 1 else "",
        target=str(content.get("_target_", "")),
        parameters={k: v for k, v in content.items() if k != "_target_" and k not in RESERVED},
        space=content.get("space") or {},
        control=bool(content.get("control", False)),
        needs=tuple(content.get("needs") or ()),
    )


def check_form(path: Path, content: Any) -> None:
    """Refuse an option file that is not one: no mapping, no trusted `_target_`, a `space` that is no domains."""
    if not isinstance(content, dict) or not isinstance(content.get("_target_"), str):
        raise Refusal(f"{path}: an option file declares a _target_, such as _target_: torch.nn.SiLU")
    check_targets(content, str(path))
    for key in ("space", "words", "limits"):
        declared = content.get(key) or {}
        if not isinstance(declared, dict):
            raise Refusal(f"{path}: {key} must map parameters, such as {key}: {{beta: ...}}")
        for name, value in declared.items():
            if str(name).split(".")[0] not in content:
                raise Refusal(
                    f"{path}: {key} names {name}, which the file gives no default; {choose(str(name), content)}"
                )
            if key == "space" and not (isinstance(value, dict) and _is_domain(value)):
                raise Refusal(
                    f"{path}: space.{name}: {value} is no domain; write "
                    "{type: float, low: 0.1, high: 1.0, log: true} or {type: categorical, choices: [a, b]}"
                )
    for name in content.get("needs") or []:
        if name not in content:
            raise Refusal(
                f"{path}: needs names {name}, which is no parameter of the file; {choose(str(name), content)}"
            )


def _is_domain(node: Mapping[str, Any]) -> bool:
    if node.get("type") == "categorical":
        return isinstance(node.get("choices"), list) and bool(node["choices"])
    low, high = node.get("low"), node.get("high")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return False
    return node.get("type") in ("float", "int") and low <= high


def check_target(found: Entry) -> None:
    """Refuse an option whose target cannot be imported, or does not take its parameters."""
    try:
        inspect.signature(get_object(found.target)).bind_partial(**found.parameters)
    except (ImportError, TypeError) as error:
        raise Refusal(f"{found.path}: {found.target}: {' '.join(str(error).split())[:200]}") from error


def build(kind: str, option: str, *args: Any, **parameters: Any) -> Any:
    """Call an option's target: build("activation", "swish", beta=2.0), build("optimizer", "adamw", params, lr=1e-3).

    The positional arguments are the kind's call shape; the parameters replace the file's defaults.
    Errors: Refusal for an unknown option or parameter, and for a value that the target refuses.
    """
    found = entry(kind, option)
    for name in parameters:
        if name not in found.parameters:
            raise Refusal(f"{kind}.{name}: {option} has no such parameter; {choose(name, found.parameters)}")
    return call({"_target_": found.target, **found.parameters, **parameters}, *args, where=f"{kind}={option}")


def call(node: DictConfig | Mapping[str, Any], *args: Any, where: str, **more: Any) -> Any:
    """Instantiate a config node with the catalogue's own keys taken off. Errors: Refusal, naming `where`."""
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    content = {str(name): value for name, value in plain.items() if name not in RESERVED}
    check_targets(content, where)
    try:
        target = get_object(str(content.pop("_target_")))
        parameters = instantiate(content, _convert_="all") if nested(content) else content
        return target(*args, **parameters, **more)
    except Refusal:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, ImportError, RuntimeError) as error:
        raise Refusal(f"{where}: {' '.join(str(error).split())}") from error


def nested(content: Mapping[str, Any]) -> bool:
    """Tell whether a parameter is itself something to build, such as a gated unit's gate."""
    return any(isinstance(value, Mapping) and "_target_" in value for value in content.values())


def check_targets(node: Any, where: str) -> None:
    """Refuse a `_target_` outside the trusted prefixes, however deep it stands."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not str(target).startswith(tuple(_allowed)):
            raise Refusal(
                f"{where}: _target_ {target} is not trusted; legal prefixes: {', '.join(_allowed)}; "
                f"add yours with allow=[{str(target).split('.')[0]}.]"
            )
        for value in node.values():
            check_targets(value, where)
    elif isinstance(node, list):
        for value in node:
            check_targets(value, where)


def factory(kind: str, node: DictConfig) -> Callable[..., Any]:
    """Bind a composed option: called with the kind's call shape it builds the component, marked with its kind."""
    plain: Any = OmegaConf.to_container(node, resolve=True)
    return partial(_make, kind, plain)


def _make(kind: str, plain: dict[str, Any], *args: Any) -> Any:
    product = call(plain, *args, where=f"{kind} {plain.get('_target_')}")
    if kind in ("activation", "normalization", "feed_forward"):
        product.kind = kind
    return product


def check_domain(where: str, value: Any, domain: Mapping[str, Any]) -> None:
    """Refuse a value outside its declared domain. `where` is the parameter's config path, such as optimizer.lr."""
    group, _, name = where.partition(".")
    if domain["type"] == "categorical":
        if value not in list(domain["choices"]):
            raise Refusal(f"{where}={value}: outside its domain; legal: {', '.join(map(str, domain['choices']))}")
        return
    if isinstance(value, str):  # a word such as gain=auto, which the type check let through
        return
    low, high = domain["low"], domain["high"]
    if not low <= value <= high:
        bound = "high" if value > high else "low"
        raise Refusal(
            f"{where}={value}: outside its domain [{low}, {high}]; "
            f"to go there on purpose add {group}.space.{name}.{bound}={value}"
        )


def check_limits(where: str, value: Any, limits: Any) -> None:
    """Refuse a value, or an element of a list, outside its declared limits; null is nobody's value."""
    if limits == "text":
        if not isinstance(value, str) or not value:
            raise Refusal(f"{where}={_typed(value)}: must be a word")
        return
    low, high = limits[0], limits[1]
    between = f"{low:g} or more" if high >= 1e6 else f"{low:g} to {high:g}"
    values = list(value) if isinstance(value, list | tuple | ListConfig) else [value]
    if len(limits) == 3 and len(values) != limits[2]:
        raise Refusal(f"{where}={_typed(value)}: must be a list of {limits[2]}, each {between}")
    number = int if isinstance(low, int) and isinstance(high, int) else int | float
    for one in values:
        if isinstance(one, bool) or not isinstance(one, number) or not low <= one <= high:
            said = "a whole number" if number is int else "a number"
            raise Refusal(f"{where}={_typed(value)}: must be {said}, {between}")


def _typed(value: Any) -> str:
    return str(list(value)).replace(" ", "").replace("'", "") if isinstance(value, ListConfig | list) else str(value)

"""The catalogue of components: the one reader of conf/<kind>/, where a file is an option.

An option file opens with its formula and its source as comments and declares `_target_` and the defaults of its
parameters. Four keys are the catalogue's own and never reach the target: `space` (the domain of each searched
parameter), `words` (words that are legal beside a number) and `control: true` (an option that is there to be
compared with, which a search leaves out unless it is named).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

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
RESERVED = ("space", "words", "control")

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


def folders() -> tuple[Path, ...]:
    """The config folders that are read, the project's own last."""
    return tuple(_folders)


def add_folder(folder: Path, allow: tuple[str, ...] = ()) -> None:
    """Read options from `folder`/<kind>/ too, and trust targets under the prefixes in `allow`."""
    if folder not in _folders:
        _folders.insert(0, folder)
        read.cache_clear()
    _allowed.extend(prefix for prefix in allow if prefix not in _allowed)


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
    text = path.read_text(encoding="utf-8")
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    comments = [line for line in comments if not line.startswith("@package")]
    content = yaml.load(text, Loader=_Loader) or {}
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
    )


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
    except (TypeError, ValueError, ImportError) as error:
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

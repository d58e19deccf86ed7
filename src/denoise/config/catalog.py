"""The catalogue of components: the one reader of conf/<kind>/, where a file is an option.

An option file opens with its formula and its source as comments and declares `_target_` and the defaults of its
parameters. Seven keys are the catalogue's own and never reach the target: `space` (the domain of each searched
parameter), `limits` (what is legal at all for the others: [low, high], for a list [low, high, length], or text),
`words` (words that are legal beside a number), `control: true` (an option that is there to be compared with,
which a search leaves out unless it is named), `needs` (parameters one of which the user must give, so that a search
draws the option only where they have chosen it), `expects` (what the rest of the config had better be: config path
-> {low: number, why: text}; below it the user is told, not refused) and `elementwise: true` (an optimizer that treats
each number by itself, so that it may take all parameters as one tensor).
"""

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from denoise.config import plain as yaml
from denoise.config.limits import as_value
from denoise.config.option_file import check_form as check_form
from denoise.config.trust import CONF as CONF
from denoise.config.trust import LIBRARY, WITHIN, add_home, check_targets, find, targets
from denoise.errors import UserError, choose
from denoise.fault import said

KINDS = (
    *("activation", "normalization", "weight_normalization", "initializer", "feed_forward"),
    *("optimizer", "lr_schedule", "denoiser"),
)
LEGAL = ("space", "words", "limits", "control", "needs", "expects")  # what no training depends on
RESERVED = (*LEGAL, "elementwise")

AS_BUILT = "as_built"  # in the folders of some kinds, and no component: a model that brings its own keeps what it has
NAME = re.compile(r"[\w-]+")  # of an option, as a search can type it

_folders: list[Path] = [CONF]


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
    limits: Mapping[str, Any]
    words: Mapping[str, Any]
    space: Mapping[str, Mapping[str, Any]]
    control: bool
    expects: Mapping[str, Mapping[str, Any]]
    needs: tuple[str, ...] = ()
    elementwise: bool = False


def folders() -> tuple[Path, ...]:
    """The config folders that are read, the project's own last."""
    return tuple(_folders)


def add_folder(folder: Path) -> None:
    """Read options from `folder`/conf/<kind>/ too, or `folder`/<kind>/ where it has no conf; trust its Python files.

    Errors: UserError where it holds nothing that is read, and where an option has the name of one that exists.
    """
    home = folder.expanduser().resolve()
    if not home.is_dir():
        raise UserError(f"--config-dir {folder}: no such folder")
    root = home / "conf" if (home / "conf").is_dir() else home
    if root in _folders:
        return
    if root == home and not any(home.glob("*/*.yaml")) and not any(home.glob("*.yaml")) and any(home.glob("*.py")):
        add_home(home)  # a model of the user's own, which needs no option file
        return
    _check_names(root)
    _folders.insert(0, root)
    add_home(home)
    read.cache_clear()


def check_own() -> None:
    """Refuse an option of a folder that was added, where its file is wrong or its target cannot be imported."""
    for kind in KINDS:
        for option in options(kind):
            if not (CONF / kind / f"{option}.yaml").exists():
                check_target(entry(kind, option))


def _check_names(root: Path) -> None:
    groups = sorted([*(path.name for path in CONF.iterdir() if path.is_dir()), "experiment"])
    files = [path for group in groups for path in sorted((root / group).glob("*.yaml"))]
    for path in files:
        for other in _folders:
            if (there := other / path.parent.name / path.name).exists():
                raise UserError(f"{path}: {path.parent.name}={path.stem} exists already ({there}); rename the file")
    for path in files:
        if not NAME.fullmatch(path.stem) or as_value(path.stem) != path.stem:
            raise UserError(
                f"{path}: {path.parent.name}={path.stem} cannot be typed as the name of an option; rename the file: "
                "letters, digits, - and _, and more than a number, true, false or null"
            )
        yaml.read(path)
    if not files and not any(path.stem != "best" for path in root.glob("*.yaml")):  # a search's best is no root config
        found = sorted(path.parent.name for path in root.glob("*/*.yaml"))
        what = f"{found[0]}/ is no kind of option" if found else "holds no option"
        near = choose(found[0] if found else "", groups)
        raise UserError(f"--config-dir {root}: {what}; write FOLDER/conf/KIND/mine.yaml; {near}")


def options(kind: str) -> list[str]:
    """List the options of `kind`: the files in its folders, in alphabetical order, as_built left out."""
    if kind not in KINDS:
        raise UserError(f"{kind}: no such kind of component; {choose(kind, KINDS)}")
    return sorted({path.stem for folder in _folders for path in (folder / kind).glob("*.yaml")} - {AS_BUILT})


def known(kind: str, option: str) -> bool:
    """Tell whether `kind` has such an option, as_built too."""
    if kind not in KINDS or "/" in str(option):
        return False
    return any((folder / kind / f"{option}.yaml").exists() for folder in _folders)


def entry(kind: str, option: str) -> Entry:
    """Read one option's file. Errors: UserError where there is no such kind or option."""
    if not known(kind, option):
        raise UserError(f"{kind}={option}: unknown option; {choose(str(option), options(kind))}")
    return read(kind, option)


@cache
def read(kind: str, option: str) -> Entry:
    """Parse the file of an option that exists."""
    path = next(p for folder in _folders if (p := folder / kind / f"{option}.yaml").exists())
    content = yaml.read(path) or {}
    check_form(path, content)
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line[1:].strip() for line in lines if line.startswith("#")]
    if package := next((line for line in comments if line.startswith("@package")), None):
        raise UserError(f"{path}: # {package}: an option stands where it is chosen; leave that line out")
    return Entry(
        kind=kind,
        option=option,
        path=path,
        formula=comments[0] if comments else "",
        source=comments[1] if len(comments) > 1 else "",
        target=str(content.get("_target_", "")),
        parameters={k: v for k, v in content.items() if k != "_target_" and k not in RESERVED},
        limits=content.get("limits") or {},
        words=content.get("words") or {},
        space=content.get("space") or {},
        control=bool(content.get("control", False)),
        expects=content.get("expects") or {},
        needs=tuple(content.get("needs") or ()),
        elementwise=content.get("elementwise", False),
    )


def check_target(found: Entry) -> None:
    """Refuse an option whose target cannot be imported, is not trusted, or does not take its parameters."""
    from denoise.process_state import steady

    try:
        with steady():
            for name, _ in targets(found.parameters, 1):
                find(name, (found.kind, WITHIN), str(found.path))
            target = find(found.target, (found.kind,), str(found.path))
        inspect.signature(target).bind_partial(**found.parameters)
    except UserError:
        raise
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"{found.path}: {found.target}: {said(error)[:200]}") from error


def build(kind: str, option: str, *args: Any, **parameters: Any) -> Any:
    """Call an option's target: build("activation", "swish", beta=2.0), build("optimizer", "adamw", params, lr=1e-3).

    The positional arguments are the kind's call shape; the parameters replace the file's defaults.
    Errors: UserError for an unknown option or parameter, and for a value that the target refuses.
    """
    found = entry(kind, option)
    for name in parameters:
        if name not in found.parameters:
            raise UserError(f"{kind}.{name}: {option} has no such parameter; {choose(name, found.parameters)}")
    content = {"_target_": found.target, **found.parameters, **parameters}
    args, optional = _call_shape(kind, args)
    made = call(content, *args, kind=kind, where=f"{kind}={option}", optional=optional)
    if kind == "optimizer" and content.get("fused"):
        made.register_step_pre_hook(_lay_gradients)
    return made


def _lay_gradients(optimizer: Any, args: Any, kwargs: Any) -> None:
    """Copy gradients into their parameters' memory formats: torch's fused steps are wrong for any other on a CPU."""
    for parameter in (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None):
        if parameter.grad.stride() != parameter.stride():
            parameter.grad = parameter.detach().clone().copy_(parameter.grad)


def elementwise(node: Mapping[str, Any] | DictConfig) -> bool:
    """Tell whether a composed optimizer treats each number by itself: it says so, and so does the file it is of.

    Parameters that are not in the file may make it another one.
    """
    given = {str(name) for name in node if name not in RESERVED and name != "_target_"}
    files = [entry("optimizer", option) for option in options("optimizer")]
    own = any(f.elementwise and f.target == node.get("_target_") and given <= set(f.parameters) for f in files)
    return own and node.get("elementwise") is True


def _call_shape(kind: str, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An activation's arguments, [num_channels], go by name and only to targets that take it."""
    return ((), {"num_channels": args[0]}) if kind == "activation" and args else (args, {})


def call(
    node: DictConfig | Mapping[str, Any],
    *args: Any,
    kind: str,
    where: str = "",
    optional: Any = MappingProxyType({}),
    **more: Any,
) -> Any:
    """Build a config node of a kind, the catalogue's own keys taken off. Errors: UserError, naming `where` or the kind.

    Of the mapping `optional` the target gets what it has a parameter for, unless the node says it.
    """
    from denoise.process_state import steady  # with torch: who only reads the catalogue does not wait for it

    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    content = {str(name): value for name, value in plain.items() if name not in RESERVED}
    where = where or kind
    check_targets(content, kind, where)
    try:
        with nullcontext() if _leaves_its_process(content) else steady():
            target = find(str(content.pop("_target_")), (kind,), where)
            built = {name: _built(value, kind, where) for name, value in content.items()}
            taken = {name: value for name, value in optional.items() if name in _accepted(target) and name not in built}
            return target(*args, **taken, **built, **more)
    except UserError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, ImportError, RuntimeError) as error:
        raise UserError(f"{where}: {said(error)}") from error


def _leaves_its_process(content: Mapping[str, Any]) -> bool:
    """Tell whether all that is built is ours or torch's, and imported: it leaves the process as it was."""
    names = [name for name, _ in targets(content)]
    return all(name.startswith(("denoise.", "torch.")) and name.rpartition(".")[0] in sys.modules for name in names)


def takes(target: str, kind: str) -> frozenset[str]:
    """The parameters of what a `_target_` names. Errors: UserError where it is not trusted; ImportError."""
    return _accepted(find(target, (kind,), kind))


@cache
def _accepted(target: Any) -> frozenset[str]:
    return frozenset(inspect.signature(target).parameters)


def _built(value: Any, kind: str, where: str) -> Any:
    """A parameter's value, built where it is itself something to build, such as a gated unit's gate."""
    if isinstance(value, list):
        return [_built(each, kind, where) for each in value]
    if not isinstance(value, Mapping):
        return value
    parameters = {name: _built(each, kind, where) for name, each in value.items() if name != "_target_"}
    if "_target_" not in value:
        return parameters
    return find(str(value["_target_"]), (kind, WITHIN), where)(**parameters)


def factory(kind: str, node: DictConfig) -> Callable[..., Any]:
    """Bind a composed option: called with the kind's call shape it builds the component, marked with its kind."""
    plain: Any = OmegaConf.to_container(node, resolve=True)
    return partial(_make, kind, plain)


def _make(kind: str, plain: dict[str, Any], *args: Any) -> Any:
    args, optional = _call_shape(kind, args)
    product = call(plain, *args, kind=kind, where=f"{kind} {plain.get('_target_')}", optional=optional)
    for base in LIBRARY.get(kind, {}).values():
        if not isinstance(product, get_object(base)):
            raise UserError(f"{kind} {plain.get('_target_')}: makes a {type(product).__name__}; it must make a {base}")
    if kind in ("activation", "normalization", "feed_forward"):
        product.kind = kind
    return product

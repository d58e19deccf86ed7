"""What a `_target_` may name, kind by kind, and whose Python files are code.

A config is data, a `_target_` in it is code. As a component of a kind may be called

- what an option file of the project's own conf/KIND names;
- for some kinds, the classes of one package of a library below one base class: LIBRARY;
- what the Python files of a folder define that is given by hand (--config-dir);
- what is allowed by name (allow=[mine.]).

A name is judged before anything is imported for it, and then what it leads to by where that is defined.
"""

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from denoise.config import plain
from denoise.config.moved import now
from denoise.config.parse import parse
from denoise.errors import UserError
from denoise.paths import conf

CONF = conf()
LIBRARY = {  # kind -> packages, and the class that what may be called there is a subclass of
    "activation": {"torch.nn.modules": "torch.nn.Module"},
    "normalization": {"torch.nn.modules": "torch.nn.Module"},
    "feed_forward": {"torch.nn.modules": "torch.nn.Module"},
    "optimizer": {"torch.optim": "torch.optim.Optimizer", "pytorch_optimizer.optimizer": "torch.optim.Optimizer"},
    "lr_schedule": {"torch.optim.lr_scheduler": "torch.optim.lr_scheduler.LRScheduler"},
    "sampler": {"optuna.samplers": "optuna.samplers.BaseSampler"},
    "pruner": {"optuna.pruners": "optuna.pruners.BasePruner"},
}
WITHIN = "activation"  # what may stand below a component of any kind, beside its own: a gated unit has a gate
OWN_MODEL = re.compile(r"model\.(?:_target_|data)=(\w+(?:\.\w+)+)")  # legal where its folder was given by hand
OTHERS = ("denoise.", "torch.", "lightning.", "optuna.", "pytorch_optimizer.", "diffusers.", "search.")  # no own code

allowed: list[str] = []
homes: list[Path] = []


def allow(prefixes: Iterable[str]) -> None:
    """Trust targets under these prefixes too; mine and mine. are one."""
    for prefix in prefixes:
        whole = f"{str(prefix).rstrip('.')}."
        if whole not in allowed:
            allowed.append(whole)


def add_home(folder: Path) -> None:
    """Make the Python files of `folder` importable, and trust them. They hide no installed module."""
    if folder not in homes:
        homes.append(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()


def find(target: str, kinds: tuple[str, ...], where: str) -> Any:
    """Import what a `_target_` names, as a component of one of these kinds.

    Errors: UserError where it may not be called; ImportError, ValueError where there is no such thing.
    """
    target = now(target)
    _check_name(target, kinds, where)
    if any(target in named(kind) or _package(target, kind) for kind in kinds) and not consented(target):
        module, _, name = target.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ImportError(f"{target}: there is no such thing ({error})") from error
        legal = any(target in named(kind) or _of_library(found, kind) for kind in kinds)
    else:
        found = get_object(target)
        legal = _defined_at(found) == "." or consented(_defined_at(found))
        legal = legal or any(_of_library(found, kind) or _of_project(found, kind) for kind in kinds)
    if not legal:
        at = _defined_at(found)
        raise UserError(
            f"{where}: _target_ {target} is not trusted: it is {at}; add allow=[{at.rpartition('.')[0]}.] to use it"
        )
    return found


def check_targets(node: Any, kind: str, where: str) -> None:
    """Refuse a `_target_` whose name may not be a component of the kind, however deep it stands; import nothing."""
    for target, depth in targets(node):
        _check_name(target, (kind, WITHIN) if depth else (kind,), where)


def _check_name(target: str, kinds: tuple[str, ...], where: str) -> None:
    target = now(target)
    if not (consented(target) or any(target in named(kind) or _package(target, kind) for kind in kinds)):
        packages = ", ".join(package.removesuffix(".modules") for package in LIBRARY.get(kinds[0], ()))
        raise UserError(
            f"{where}: _target_ {target} is not trusted; legal: what the files in conf/{kinds[0]} name"
            f"{', classes of ' * bool(packages)}{packages}; put its Python file into the folder of --config-dir, or "
            f"add allow=[{target.rpartition('.')[0] or target}.]"
        )


@cache
def named(kind: str) -> frozenset[str]:
    """Every `_target_` of the project's own option files of a kind."""
    files = (CONF / kind).glob("*.yaml")
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return frozenset(found[1] for line in lines if (found := re.match(r"\s*_target_: ([\w.]+)$", line)))


def _package(target: str, kind: str) -> str | None:
    """The package of LIBRARY that a name is of: it stands in the package, or right in one that holds the package."""
    module = target.rpartition(".")[0]
    for package in LIBRARY.get(kind, ()):
        if f"{module}.".startswith(f"{package}.") or f"{package}.".startswith(f"{module}."):
            return package
    return None


def _of_library(found: Any, kind: str) -> bool:
    """Tell a class that LIBRARY describes: defined below the package, under its own name, of the base class."""
    if not inspect.isclass(found):
        return False
    for package, base in LIBRARY.get(kind, {}).items():
        if f"{found.__module__}.".startswith(f"{package}.") and issubclass(found, get_object(base)):
            node: Any = sys.modules[found.__module__]
            for name in found.__qualname__.split("."):
                node = getattr(node, name, None)
            return node is found
    return False


def _of_project(found: Any, kind: str) -> bool:
    """Tell what an option file of the project names, whatever name it was reached by."""
    same = [target for target in named(kind) if target.rpartition(".")[2] == getattr(found, "__name__", "")]
    return any(get_object(target) is found for target in same)


def _defined_at(found: Any) -> str:
    home = getattr(found, "__module__", None)
    return "." if home is None else f"{home}.{getattr(found, '__qualname__', '')}"


def consented(target: str) -> bool:
    """Tell whether a name is allowed, or leads into a Python file of a folder that was given.

    Errors: UserError for such a file where another module has its name.
    """
    if target.startswith(tuple(allowed)):
        return True
    top = target.partition(".")[0]
    files = [path for home in homes for path in (home / f"{top}.py", home / top / "__init__.py") if path.is_file()]
    if not files:
        return False
    spec = find_spec(top)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() not in [file.resolve() for file in files]:
        raise UserError(f"{files[0]}: another module is called {top} already; give the file another name")
    return True


def targets(node: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    """Every `_target_` of a config and how deep it stands.

    Errors: UserError for the other keys of Hydra's (_args_, _partial_, _recursive_, _convert_): values go by name.
    """
    if isinstance(node, Mapping):
        for key in node:
            if re.fullmatch(r"_\w+_", str(key)) and key != "_target_":
                raise UserError(f"{key}={node[key]}: not a key of an option; give each parameter by its name")
        if node.get("_target_") is not None:
            yield str(node["_target_"]), depth
        node = list(node.values())
    for value in node if isinstance(node, list) else ():
        yield from targets(value, depth + 1)


def check_overrides(overrides: Sequence[str], where: str) -> None:
    """Refuse overrides of a record, of a best.yaml or a model that are more than choices and values: none was typed."""
    for text in overrides:
        if found := OWN_MODEL.fullmatch(text):
            if not consented(found[1]):
                raise UserError(
                    f"{where}: its {text} names a class of your own; add --config-dir FOLDER, where it lies"
                )
        elif "_target_" in text or text.lstrip("+~").startswith(("allow", "hydra")):
            raise UserError(f"{where}: its override {text} would choose code to run; that is not taken from a record")
        plain.check_text(text, where)
        try:
            parse(text)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def own() -> bool:
    """Tell whether code that is not this project's or a library's was trusted at all."""
    return bool(homes or allowed)


def own_code(node: Any) -> dict[str, str]:
    """sha256 of the Python files behind each `_target_` of the user's own, by its module's name; none of a library's.

    Of a module its own file and those beside it in a folder that was given, since it may import them; of a package all
    its files. As they were when first asked for: what runs is what was imported.
    """
    modules = {target.partition(".")[0] for target, _ in targets(node) if not target.startswith(OTHERS)}
    found = {}
    for module in sorted(modules):
        spec = find_spec(module)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            found[module] = _sha256(Path(spec.origin))
        elif spec is not None and spec.submodule_search_locations:  # a package without an __init__.py
            found[module] = _sha256(Path(next(iter(spec.submodule_search_locations))) / "__init__.py")
    return found


@cache
def _sha256(file: Path) -> str:
    package = file.name == "__init__.py"
    root = file.parents[1] if package else file.parent
    files = {file} if file.is_file() else set()
    if package or root in homes:
        files.update(_python_files(root if root in homes else file.parent))
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _python_files(folder: Path) -> Iterator[Path]:
    """However deep, but not in hidden folders and those of other people's packages."""
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path.name not in ("site-packages", "node_modules"):
            yield from _python_files(path)
        elif path.suffix == ".py" and path.is_file() and not path.name.startswith("."):
            yield path

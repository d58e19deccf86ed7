"""Whose code a config may name: modules under trusted prefixes, and the Python files of a folder that was given.

A config is data, a `_target_` in it is code. Trusted are this project and the libraries it is built on, what a person
allows by name (allow=[mine.]), and what lies in a folder that a person gives by hand (--config-dir).
"""

import hashlib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from denoise.refusal import Refusal

PREFIXES = (
    "denoise.",
    "torch.",
    "lightning.",
    "optuna.",
    "pytorch_optimizer.",
    "diffusers.",
    "search.sampler.",
    "search.pruner.",
)

BARRED = (  # they run what they read, or start processes
    *("torch.hub.", "torch.serialization.", "torch.package.", "torch.jit.", "torch.utils."),
    *("torch.distributed.", "torch.multiprocessing."),
)

allowed: list[str] = list(PREFIXES)
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


def trusted(target: str) -> bool:
    """Tell whether a target may be imported.

    Errors: Refusal for a Python file in a folder that was given, where another module has its name.
    """
    if target.startswith(tuple(allowed)):
        return True
    top = target.partition(".")[0]
    files = [path for home in homes for path in (home / f"{top}.py", home / top / "__init__.py") if path.is_file()]
    if not files:
        return False
    spec = find_spec(top)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() not in [file.resolve() for file in files]:
        raise Refusal(f"{files[0]}: another module is called {top} already; give the file another name")
    return True


def check_targets(node: Any, where: str) -> None:
    """Refuse a `_target_` whose name is not trusted, however deep it stands."""
    for target in targets(node):
        if not trusted(target):
            raise Refusal(
                f"{where}: _target_ {target} is not trusted; legal prefixes: {', '.join(allowed)}; put its Python file "
                f"into the folder of --config-dir, or add allow=[{target.split('.')[0]}.]"
            )


def check_objects(node: Any, where: str) -> None:
    """Import the targets; refuse what is not defined where its name says: torch.os.system, and torch.hub.load."""
    consent = tuple(prefix for prefix in allowed if prefix not in PREFIXES)
    for target in targets(node):
        found = get_object(target)
        home = getattr(found, "__module__", None)
        name = f"{home}.{getattr(found, '__qualname__', '')}"
        barred = name.startswith(BARRED) and not name.startswith(consent)
        if home is not None and (barred or not trusted(name)):
            raise Refusal(f"{where}: _target_ {target} is not trusted: it is {name}; add allow=[{home}.] to use it")


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` of a config, however deep it stands."""
    if isinstance(node, Mapping):
        if node.get("_target_") is not None:
            yield str(node["_target_"])
        node = list(node.values())
    for value in node if isinstance(node, list) else ():
        yield from targets(value)


def own() -> bool:
    """Tell whether code that is not this project's or a library's was trusted at all."""
    return bool(homes) or len(allowed) > len(PREFIXES)


def own_code(node: Any) -> dict[str, str]:
    """sha256 of the Python files behind each `_target_` of one's own, by the name of its module; none of a library's.

    Of a module its own file and those beside it in a folder that was given, since it may import them; of a package all
    its files. As they were when first asked for: what runs is what was imported.
    """
    modules = {str(target).partition(".")[0] for target in targets(node) if not str(target).startswith(PREFIXES)}
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

"""Whose code a config may name: modules under trusted prefixes, and the Python files of a folder that was given.

A config is data, a `_target_` in it is code. Trusted are this project and the libraries it is built on, what a person
allows by name (allow=[mine.]), and what lies in a folder that a person gives by hand (--config-dir).
"""

import importlib
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from denoise.refusal import Refusal

PREFIXES = ("denoise.", "search.pruner.", "torch.", "lightning.", "optuna.", "pytorch_optimizer.", "diffusers.")

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
    """Refuse a `_target_` that is not trusted, however deep it stands."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not trusted(str(target)):
            raise Refusal(
                f"{where}: _target_ {target} is not trusted; legal prefixes: {', '.join(allowed)}; put its Python file "
                f"into the folder of --config-dir, or add allow=[{str(target).split('.')[0]}.]"
            )
        for value in node.values():
            check_targets(value, where)
    elif isinstance(node, list):
        for value in node:
            check_targets(value, where)

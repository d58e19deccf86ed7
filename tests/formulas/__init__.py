"""The formulas of every option, written from the papers in float64 and apart from the code that they test.

One file a kind, each with a table of the kind's name. An option without a formula there fails its contract test: add
one small function. The formulas of one's own components stand in the same tables in formulas.py in their folder.
"""

import runpy
from importlib import import_module
from typing import Any

import pytest

from denoise.config import trust


def find(kind: str, option: str) -> Any:
    """The formula of an option; where there is none, fail with the line to write."""
    table: dict[str, Any] = dict(getattr(import_module(f"formulas.{kind}"), kind.upper()))
    where = [f"tests/formulas/{kind}.py"]
    for file in (home / "formulas.py" for home in trust.homes):
        table |= runpy.run_path(str(file)).get(kind.upper(), {}) if file.is_file() else {}
        where.append(str(file))
    if option not in table:
        pytest.fail(f"{where[-1]}: no formula for {option}; add one to {kind.upper()}", pytrace=False)
    return table[option]

"""The formulas of every option, written from the papers in float64 and apart from the code that they test.

One file a kind, each with a table of the kind's name. An option without a formula there fails its contract test: add
one small function.
"""

from importlib import import_module
from typing import Any

import pytest


def find(kind: str, option: str) -> Any:
    """The formula of an option; where there is none, fail with the line to write."""
    table: dict[str, Any] = getattr(import_module(f"formulas.{kind}"), kind.upper())
    if option not in table:
        pytest.fail(f"tests/formulas/{kind}.py: no formula for {option}; add one to {kind.upper()}", pytrace=False)
    return table[option]

"""The formulas of every option, written from the papers in float64 and apart from the code that they test.

One file a kind, each with a table of the kind's name. An option without a formula there fails its contract test: add
one small function. An option of maths that another option has takes that one's, and an activation of torch's
without a formula is compared with itself in float64. The formulas of components in a folder outside stand in the same
tables in formulas.py there.
"""

import runpy
from importlib import import_module
from typing import Any

import pytest
from hydra.utils import get_object

from denoise.config import catalog, trust


def find(kind: str, option: str) -> Any:
    """The formula of an option; where there is none, fail with the line to write."""
    table: dict[str, Any] = dict(getattr(import_module(f"tests.formulas.{kind}"), kind.upper()))
    where = [f"tests/formulas/{kind}.py"]
    for file in (home / "formulas.py" for home in trust.homes):
        table |= runpy.run_path(str(file)).get(kind.upper(), {}) if file.is_file() else {}
        where.append(str(file))
    if option not in table:
        target = catalog.entry(kind, option).target
        if kind == "activation" and target.startswith("torch."):
            return lambda x, **parameters: get_object(target)(**parameters).to(x.dtype)(x).detach()
        for other in set(table) & set(catalog.options(kind)):
            if catalog.entry(kind, other).target == target:
                return table[other]
        pytest.fail(f"{where[-1]}: no formula for {option}; add one to {kind.upper()}", pytrace=False)
    return table[option]

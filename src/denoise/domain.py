"""What an option file declares as legal: the domain of a searched parameter, the limits of the others."""

from collections.abc import Mapping
from typing import Any

from omegaconf import ListConfig

from denoise.refusal import Refusal


def is_domain(node: Mapping[str, Any]) -> bool:
    """Tell whether a mapping declares a domain, such as {type: categorical, choices: [a, b]}."""
    if node.get("type") == "categorical":
        return isinstance(node.get("choices"), list) and bool(node["choices"])
    low, high = node.get("low"), node.get("high")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return False
    return node.get("type") in ("float", "int") and low <= high


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

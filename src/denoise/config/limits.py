"""What an option file declares as legal: the domain of a searched parameter, the limits of the others."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig

from denoise.errors import UserError

FORM = "write {type: float, low: 0.1, high: 1.0, log: true} or {type: categorical, choices: [a, b]}"

LIMITS = "write [low, high], for a list, or a number or a list, [low, high, length], or text for a word"


def is_domain(node: Mapping[str, Any]) -> bool:
    """Tell whether a mapping declares a domain, such as {type: categorical, choices: [a, b]}."""
    if node.get("type") == "categorical":
        return isinstance(node.get("choices"), list | ListConfig) and bool(node["choices"])
    low: Any = node.get("low")
    high: Any = node.get("high")
    if node.get("type") not in ("float", "int") or not is_number(low) or not is_number(high):
        return False
    return bool(low <= high and not (node.get("log") and low <= 0))


def is_limits(declared: Any) -> bool:
    """Tell whether a value declares limits: [low, high], [low, high, length] or text."""
    if not isinstance(declared, list | tuple | ListConfig) or len(declared) not in (2, 3):
        return bool(declared == "text")
    low, high, *length = declared
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in length)
    return is_number(low) and is_number(high) and bool(low <= high) and whole


def is_words(declared: Any) -> bool:
    """Tell a list of words, which are legal beside a number."""
    return isinstance(declared, list | ListConfig) and all(isinstance(word, str) for word in declared)


def has_ends(declared: Any) -> bool:
    """Tell whether a value has what every domain has: a type, and its ends or a list of choices."""
    if not isinstance(declared, Mapping | DictConfig) or not isinstance(declared.get("type"), str):
        return False
    if declared["type"] == "categorical":
        return isinstance(declared.get("choices"), list | ListConfig)
    return "low" in declared and "high" in declared


def is_number(value: Any) -> bool:
    """Tell a number that arithmetic can use from a word, a truth value and what is infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def as_text(value: Any) -> str:
    """Write a value as it is typed in an override: null, [1,2], auto."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple | ListConfig):
        return f"[{','.join(map(as_text, value))}]"
    if isinstance(value, str) and not value.startswith("[") and (not value or as_value(value) != value):
        quoted = value.replace("'", "\\'")
        return f"'{quoted}'"
    return str(value)


def as_choice(value: Any) -> Any:
    """A value as a list of choices can hold it: a list, or the text of one, as its text without blanks."""
    if isinstance(value, str) and value.startswith("["):
        value = as_value(value)
    return as_text(value) if isinstance(value, list | tuple | ListConfig) else value


@lru_cache(maxsize=4096)
def as_value(text: str) -> Any:
    """Read what an override with this text means; None for what cannot be read."""
    try:
        return OverridesParser.create().parse_override(f"x={text}").value()
    except (HydraException, ValueError, RecursionError):  # a number of 5,000 digits, a list in a list in ...
        return None


def check_domain(where: str, value: Any, domain: Mapping[str, Any]) -> None:
    """Refuse a value outside its declared domain. `where` is the parameter's config path, such as optimizer.lr."""
    group, _, name = where.rpartition(".")
    if domain["type"] == "categorical":
        if as_choice(value) not in [as_choice(choice) for choice in domain["choices"]]:
            legal = ", ".join(as_text(choice) for choice in domain["choices"])
            raise UserError(f"{where}={as_text(value)}: outside its domain; legal: {legal}")
        return
    if isinstance(value, str):  # a word such as gain=auto, which the type check let through
        return
    low, high = domain["low"], domain["high"]
    for end, bound in (("low", low), ("high", high)):
        if not is_number(bound):
            raise UserError(f"{group}.space.{name}: {end}={as_text(bound)} is no finite number; {FORM}")
    if not low <= value <= high:
        end = "high" if value > high else "low"
        possible = is_number(value) and not (domain.get("log") and value <= 0)
        way = f"to go there on purpose add {group}.space.{name}.{end}={value}" if possible else "take a value within"
        raise UserError(f"{where}={value}: outside its domain [{low}, {high}]; {way}")


def check_limits(where: str, value: Any, limits: Any) -> None:
    """Refuse a value, or an element of a list, outside its declared limits; null is no one's value.

    Of limits with a length a number is legal too where the default is one: the type of a value is checked before.
    """
    if limits == "text":
        if not isinstance(value, str) or not value:
            raise UserError(f"{where}={as_text(value)}: must be a word")
        return
    low, high = limits[0], limits[1]
    between = f"{low:g} or more" if high >= 1e6 else f"{low:g} to {high:g}"
    values = list(value) if isinstance(value, list | tuple | ListConfig) else [value]
    if len(limits) == 3 and len(values) != limits[2] and isinstance(value, list | tuple | ListConfig):
        raise UserError(f"{where}={as_text(value)}: must be a list of {limits[2]}, each {between}")
    number = int if isinstance(low, int) and isinstance(high, int) else int | float
    for one in values:
        if isinstance(one, bool) or not isinstance(one, number) or not low <= one <= high:
            said = "a whole number" if number is int else "a number"
            raise UserError(f"{where}={as_text(value)}: must be {said}, {between}")


DECLARED: dict[str, tuple[Callable[[Any], bool], str]] = {  # what a file declares as legal, and the form of each
    "space": (has_ends, FORM),
    "limits": (is_limits, LIMITS),
    "words": (is_words, "write a list of words, such as [auto]"),
}

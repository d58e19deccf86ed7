"""One override as Hydra reads it; a value that Hydra cannot read is taken as it was typed."""

import re
from collections.abc import Container, Sequence
from functools import lru_cache
from itertools import accumulate

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from denoise.config.fast_compose import PLACES
from denoise.config.overrides import key, own_part
from denoise.errors import UserError

SIMPLE = re.compile(r"[\w@.+~]+=[\w./+-]+", re.ASCII)  # nothing to quote
LONG, DEEP = 10_000, 50  # characters, which Hydra takes up to 3 s to read; brackets within brackets
KEPT = 160  # characters of what is longer, as it is said
DOMAIN = re.compile(r"\+{0,2}((?:[\w.]+\.)?space(?:\.\w+)?|search\.domains\.[\w.]+)=(\{.*)", re.DOTALL)
DEPTH = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
BEGUN = ("'", '"', "[", "{")  # what begins so and is not ended is a slip, and no text


@lru_cache(maxsize=4096)
def parse(text: str) -> Override:
    """Read one override; to be read only. Errors: UserError for what is none, and for sweeps."""
    if len(text) > LONG or _depth(text) > DEEP:
        what = f"longer than {LONG} characters" if len(text) > LONG else f"nested deeper than {DEEP}"
        raise UserError(f"{text[:KEPT]}...: {what}; a long list goes into a file of a folder for --config-dir")
    try:
        override = OverridesParser.create().parse_override(readable(text))
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits
        raise UserError(f"{text}: cannot be read ({' '.join(str(error).split())[:160]})") from error
    except HydraException as error:
        raise UserError(f"{text}: not an override; write key=value, such as optimizer.lr=0.01") from error
    if override.is_sweep_override():
        raise UserError(f"{text}: a list of values to try; give one value here; the verb search tries many")
    return override


@lru_cache(maxsize=4096)
def readable(text: str) -> str:
    """The override with its value in quotes where Hydra reads it only so: key=/a(b)=c becomes key='/a(b)=c'.

    A path or an address with a comma too: Hydra takes it for a list of values to try.
    """
    key, _, value = text.partition("=")
    value = value.strip()
    if SIMPLE.fullmatch(text) or not value or value.startswith(BEGUN) or _reads(text, "/" not in value):
        return text
    as_text = f"{key}={quoted(value)}"
    return as_text if _reads(as_text) else text


def added(overrides: Sequence[str], named: Container[str]) -> tuple[str, ...]:
    """Choices for parts of the user's own as Hydra takes them: added, as no file has them, the last of each.

    A choice of null is none.
    """
    last = {key(text): text for text in overrides if own_part(text) in named}
    others = [text for text in overrides if own_part(text) not in named]
    return (*others, *(f"+{text.lstrip('+')}" for text in last.values() if parse(text).value() is not None))


def names_parts(override: Override) -> bool:
    """Whether an override says which parts a model has beside those of its ranks."""
    return f"{override.key_or_group}.".startswith(PLACES)


def replacing(text: str) -> list[str]:
    """A domain that is typed whole replaces the one that is there; Hydra alone would mix the keys of both."""
    whole = DOMAIN.fullmatch(text)
    return [text] if whole is None else [f"++{whole[1]}=null", f"++{whole[1]}={whole[2]}"]


def quoted(value: str) -> str:
    """The value in quotes of Hydra's, within which only a quote means something."""
    return QuotedString(value, Quote.single).with_quotes()


def _depth(text: str) -> int:
    """How many brackets are open at once at most, as far as they pair."""
    return max(accumulate(DEPTH.get(letter, 0) for letter in text), default=0)


def _reads(text: str, sweeps: bool = True) -> bool:
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError, RecursionError):
        return False
    return sweeps or not override.is_sweep_override()

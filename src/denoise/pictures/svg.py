"""What every picture is made of: pieces of text, round numbers for an axis, the page."""

import math
from collections.abc import Sequence
from html import escape


def text(
    x: float,
    y: float,
    said: str,
    anchor: str = "start",
    weight: str = "normal",
    colour: str = "#222",
    size: int | None = None,
) -> str:
    """A piece of text at (x, y), in the page's size or its own."""
    own = "" if size is None else f" font-size='{size}'"
    place = f"x='{round(x, 1)}' y='{round(y, 1)}' text-anchor='{anchor}'"
    return f"<text {place} font-weight='{weight}' fill='{colour}'{own}>{escape(said)}</text>"


def ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers inside of [low, high]."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if (high - low) / (factor * step) >= 4)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def page(width: float, height: float, parts: Sequence[str], size: int = 10) -> bytes:
    """A whole picture on white, its text in `size`."""
    style = f"font-family='sans-serif' font-size='{size}' fill='#222'"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' {style}>"
    return "\n".join([head, "<rect width='100%' height='100%' fill='#fff'/>", *parts, "</svg>\n"]).encode()

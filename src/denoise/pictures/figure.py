"""What every drawn picture shares: one style of matplotlib on white, sizes in points, the same bytes for the same data.

matplotlib is imported when a picture is drawn: 0.4 s that a command without a picture need not pay. Its settings are
those below while a picture is drawn, whatever a matplotlibrc says, and the caller's again afterwards.
"""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008 and two more, told apart without red or green; no yellow, which is pale on white
BLUE, ORANGE, GREEN, PURPLE, SKY, BROWN = "#0072b2", "#d55e00", "#009e73", "#a6538b", "#56b4e9", "#8a5a00"
INK, FAINT, DOT, LINE = "#222222", "#666666", "#7a8794", "#dddddd"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, BROWN, DOT)
SMALL, SIZE = 7.5, 8.5  # of text
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it is small, searched and read aloud
    "svg.hashsalt": "denoise-search",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": SIZE,
    "text.color": INK,
    "text.parse_math": False,  # a name with $ is a name
    "axes.titlesize": SIZE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": SMALL,
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": "#999999",
    "ytick.color": "#999999",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
}
Given = ParamSpec("Given")


def styled(draw: Callable[Given, bytes]) -> Callable[Given, bytes]:
    """Let a function draw its picture in the style of this module."""

    @wraps(draw)
    def drawn(*args: Given.args, **kwargs: Given.kwargs) -> bytes:
        import matplotlib

        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            return draw(*args, **kwargs)

    return drawn


def blank(width: float, height: float) -> Figure:
    """A white page of so many points."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="white")


def panel(figure: Figure, left: float, top: float, width: float, height: float, title: str = "") -> Axes:
    """Axes at (left, top) of a page, in points from its upper left corner."""
    wide, high = figure.get_size_inches() * 72
    axes = figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))
    if title:
        axes.set_title(label(title, 200))
    return axes


def sheet(figure: Figure) -> Axes:
    """Axes over the whole page that measure in points from its upper left corner and show nothing of themselves."""
    wide, high = figure.get_size_inches() * 72
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(high, 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def label(said: str, most: int = 40, end: bool = False) -> str:
    """A name on one line, at most so many letters of it, its beginning or (`end`) its end; nothing that XML forbids."""
    said = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in said)
    said = said.replace("\ufffe", " ").replace("\uffff", " ")
    if len(said) <= most:
        return said
    return "…" + said[len(said) - most + 1 :] if end else said[: most - 1] + "…"


def svg(figure: Figure, title: str) -> bytes:
    """The page as SVG with a title, without the date or the versions of when it was drawn."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    about = dict.fromkeys(("Date", "Creator", "Format", "Type")) | {"Title": label(title, 200)}
    FigureCanvasSVG(figure).print_svg(buffer, metadata=about)
    content = buffer.getvalue()
    return content[content.index(b"<svg") :]

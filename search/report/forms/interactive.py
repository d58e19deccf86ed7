"""Optuna's pictures of a search as one HTML file that opens offline: plotly's library is in it, once."""

from collections.abc import Sequence
from pathlib import Path

from search.console.redact import hide, printable
from search.report.plots.interactive import Plot

TEMPLATE = Path(__file__).with_name("interactive.html")


def render(name: str, plots: Sequence[Plot]) -> bytes:
    """The page; nothing where no picture is drawn. Errors: ImportError where plotly is not there."""
    drawn, left = [plot for plot in plots if plot.figures], [plot for plot in plots if not plot.figures]
    if not drawn:
        return b""
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    said = printable(hide(name))
    return template.render(name=said, drawn=drawn, left=left, library=get_plotlyjs()).encode()

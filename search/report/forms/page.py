"""A report as one HTML file that fetches nothing and runs no script: for a screen, a phone, paper, light or dark."""

import base64
import re
from html import escape
from pathlib import Path
from typing import Any

from denoise.pictures.figure import BLUE, DOT, FAINT, GREEN, INK, LINE, ORANGE
from search.console.redact import hide, printable
from search.report.plots.material import Picture
from search.report.report import SearchReport

NAME = "report.html"
TEMPLATE = Path(__file__).with_name("page.html")
LARGE, SMALL = 1.35, 1.1  # pixels for a point of a picture, at most and at least
# what a picture is drawn in, by the name of the page's own colour, which is another one where it is dark
COLOURS = {INK: "ink", FAINT: "faint", LINE: "line", "#999999": "axis", "#ffffff": "paper", "#000000": "ink"}
COLOURS |= {BLUE: "blue", ORANGE: "orange", GREEN: "green", DOT: "dot", "#e6eef6": "band", "#f6f6f6": "band2"}


def render(report: SearchReport) -> bytes:
    """The page."""
    from jinja2 import Environment, StrictUndefined

    drawn = iter(range(10_000))

    def text(said: str) -> str:
        return printable(hide(said))

    def figure(picture: Picture) -> str:
        says = text(picture.says)
        if picture.is_svg:
            return inline(picture.content.decode(), f"p{next(drawn)}-", says)
        data, look = base64.b64encode(picture.content).decode(), ' class="small"' if picture.small else ""
        return f'<img{look} src="data:image/png;base64,{data}" alt="{escape(says)}">'

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"figure": figure, "text": text}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(report=report).encode()


def inline(svg: str, prefix: str, says: str) -> str:
    """An SVG as a part of a page: in the page's colours, its ids its own, no style that reaches beyond it."""
    svg = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>|<title>.*?</title>", "", svg, flags=re.DOTALL
    )
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)
    svg = re.sub(
        r"#[0-9a-f]{6}(?=[;\"])", lambda found: f"var(--{COLOURS[found[0]]})" if found[0] in COLOURS else found[0], svg
    )
    found: Any = re.match(r'<svg[^>]* viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', svg)
    wide, high = float(found[1]), float(found[2])
    look = f"max-width:{LARGE * wide:.0f}px;min-width:{SMALL * wide:.0f}px"
    head = f'<svg role="img" aria-label="{escape(says)}" viewBox="0 0 {wide:g} {high:g}" style="{look}">'
    return re.sub(r">\s+<", "><", head + svg[found.end() :]).strip()

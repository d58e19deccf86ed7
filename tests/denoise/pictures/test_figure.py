"""What every picture shares: names as they are, the same bytes for the same data, the caller's settings left alone."""

import ast
import math
import xml.etree.ElementTree as ET
from html import escape
from pathlib import Path

import matplotlib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from denoise.pictures.depth import Curve, limits, through_depth
from denoise.pictures.figure import blank, label, panel, sheet, styled, svg
from tests.pictures import HOSTILE, parsed, texts

ROOT = Path(__file__).resolve().parents[3]


@styled
def page(name: str, values: list[float]) -> bytes:
    figure = blank(200, 100)
    sheet(figure).text(5, 10, label(name))
    panel(figure, 30, 20, 150, 60, name).plot(values)
    return svg(figure, name)


@given(st.text())
@example(HOSTILE)
@settings(max_examples=8, deadline=None)
def test_any_name_is_drawn(name: str) -> None:
    assert label(name).strip() in texts(parsed(page(name, [1.0, 2.0])))


@given(st.text(max_size=60), st.integers(2, 30), st.booleans())
@example("a\nb\x1b\udcff\ufffe", 30, False)
def test_a_label_is_one_line_and_no_longer(name: str, most: int, end: bool) -> None:
    made = label(name, most, end)
    assert len(made) == min(len(name), most) and len(made.splitlines()) <= 1
    assert ET.fromstring(f"<a>{escape(made)}</a>".encode()).text == (made or None)
    assert len(name) <= most or (made[0] if end else made[-1]) == "…"


def test_the_same_data_gives_the_same_bytes_whatever_the_settings_are() -> None:
    before = page("a", [1.0, 3.0])
    with matplotlib.rc_context({"font.size": 20, "lines.color": "red", "svg.hashsalt": "other", "axes.grid": False}):
        was = matplotlib.rcParams.copy()
        assert page("a", [1.0, 3.0]) == before != page("a", [1.0, 4.0])
        assert matplotlib.rcParams.copy() == was


@pytest.mark.parametrize("top", ["src", "search", "benchmarks", "experiments"])
def test_matplotlib_is_imported_where_a_picture_is_drawn(top: str) -> None:
    for path in (ROOT / top).rglob("*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        assert "pyplot" not in path.read_text(encoding="utf-8"), path
        for node in module.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "matplotlib"], f"{path}: at its start"


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_the_axis_of_depth_holds_the_positive_values(values: list[float]) -> None:
    low, high = limits([Curve("a", values, "red")])
    assert 0 < low < high and 2 <= round(math.log10(high / low)) <= 24
    known = [v for v in values if 1e-270 < v < 1e300]
    if known and max(values) == max(known):
        assert high / 10 <= max(known) * (1 + 1e-9) <= high * (1 + 2e-9)


def test_depth_is_drawn_whatever_its_values() -> None:
    curves = [Curve(HOSTILE, [1.0, 0.0, math.nan, math.inf, -1.0, 1e-300], "red"), Curve("b", [1.0], "blue")]
    written = texts(parsed(through_depth(HOSTILE, {"signal": curves, "gradient": curves})))
    assert "depth: 0 the input, 1 the output" in written and "signal" in written

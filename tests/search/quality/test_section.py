"""What is said of the quality of drawn images, and its record: it comes back, or is refused."""

import json
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from denoise.errors import UserError
from denoise.evaluation.sample_quality import Figure
from denoise.metrics import KERNEL_DISTANCE, QUALITY
from search.quality.found import FILE, ArmQuality, QualityFound, from_json, to_json
from search.quality.section import quality_section, sentences


def found_of(*arms: tuple[float, float]) -> QualityFound:
    """Arms with these kernel distances and test losses; their differences have an interval of +- 0.1."""
    made: list[ArmQuality] = []
    for i, (distance, loss) in enumerate(arms):
        figures = {name: Figure(distance, distance - 0.1, distance + 0.1) for name in QUALITY}
        beside = {name: Figure(d := distance - arms[0][0], d - 0.1, d + 0.1) for name in QUALITY} if i else {}
        differs = f"activation=a{i}" if i else "baseline"
        each = {1000: {name: distance for name in QUALITY}}
        made.append(ArmQuality(f"run{i}", i, differs, {1000: f"r{i}"}, each, figures, beside, loss))
    return QualityFound(
        {"images": 270}, ["r0"], "a classifier of 10 classes", 0.99, 270, 0.95, {n: 0.01 for n in QUALITY}, made
    )


def test_the_section_says_who_is_nearer_and_whether_the_loss_agrees() -> None:
    title, said, (table,) = quality_section(found_of((1.0, 0.5), (0.7, 0.4), (1.05, 0.3), (1.5, 0.6)))
    assert title == "Sample quality"
    assert said[0].startswith("Trial 1 (activation=a1): images nearer to the test images than the baseline's")
    assert "kernel distance 0.7, -0.3 (95 % interval -0.4 to -0.2)" in said[0]
    assert "not shown to be nearer or farther" in said[1] and "farther from the test images" in said[2]
    assert said[3] == "Rank correlation of kernel distance and test/loss: +0.40 (of 4 configs)."
    assert "99.0 % of the test images right" in said[4] and "over images, not over seeds" in said[4]
    for width in (80, 160):
        console = Console(width=width, record=True, file=StringIO())
        console.print(table)
        lines = console.export_text().splitlines()
        assert max(map(len, lines)) <= width and any("training" in line for line in lines)
    assert not any("orrelation" in line for line in sentences(found_of((1.0, 0.5), (0.7, 0.4))))
    assert "cannot be ranked" in sentences(found_of((1.0, 0.5), (1.0, 0.4), (1.0, 0.3)))[2]
    assert quality_section(None) == ("Sample quality", (), ())


def test_the_record_comes_back_and_one_that_was_changed_is_refused() -> None:
    found = found_of((1.0, 0.5), (0.7, 0.4))
    assert from_json(to_json(found)) == found
    plain = json.loads(to_json(found))
    bad: list[Any] = [
        [],
        {},
        plain | {"format": 2},
        plain | {"count": "x"},
        plain | {"arms": [{}]},
        plain | {"more": 1},
    ]
    for path, value in ((("figures", KERNEL_DISTANCE, "value"), "x"), (("loss",), True), (("differs",), 3)):
        changed = json.loads(to_json(found))
        node = changed["arms"][1]
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = value
        bad.append(changed)
    for each in bad:
        with pytest.raises(UserError, match=FILE):
            from_json(json.dumps(each).encode())

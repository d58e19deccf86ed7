"""The pages of the kinds: fresh, complete, drawn from what is really built, and with figures that can be checked."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from scipy import integrate, stats

from denoise.config import catalog
from denoise.config.compose import leaves
from denoise.initializer.library import auto_gain
from search.catalog_pages import costs, kinds, pages
from search.catalog_pages.curves import activation_lines, course_lines, digits, figures
from search.space.search_config import read
from tests.pictures import parsed

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parents[3]
ENTRIES = [entry for kind in catalog.KINDS for entry in kinds.own_options(kind)]
IDS = [f"{entry.kind}-{entry.option}" for entry in ENTRIES]
NO_SETTINGS = ("defaults", "limits")  # of a file in conf/search
DRAWN = [entry for entry in ENTRIES if entry.kind in kinds.DRAWN]


def text_of(entry: catalog.Entry) -> str:
    """The section of an option on its page."""
    page = (ROOT / kinds.FOLDER / f"{entry.kind}.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {re.escape(entry.option)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(autouse=True, scope="module")
def _made_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "files", cache(kinds.files))
        yield


def test_pages_are_those_of_conf(capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.refresh(check=True) == 0, capsys.readouterr().err


def test_catalog_writes_what_is_missing_or_stale_and_removes_what_is_left_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / kinds.FOLDER, tmp_path / kinds.FOLDER)
    folder = tmp_path / kinds.FOLDER
    assert pages.refresh(check=True, root=tmp_path) == 0
    (folder / "optimizer.md").write_text("stale")
    (folder / "activation" / "silu.svg").unlink()
    (folder / "activation" / "gone.svg").write_text("<svg/>")
    assert pages.refresh(check=True, root=tmp_path) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 3
    assert all(name in err for name in ("optimizer.md", "silu.svg", "gone.svg", "make catalog"))
    assert pages.refresh(root=tmp_path) == 0
    assert pages.refresh(check=True, root=tmp_path) == 0
    assert not (folder / "activation" / "gone.svg").exists()


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_every_option_has_its_section(entry: catalog.Entry) -> None:
    text = text_of(entry)
    assert f"`{entry.formula}`" in text and entry.target in text and f"conf/{entry.kind}/{entry.option}.yaml" in text
    for name in (*entry.parameters, *entry.space):
        assert f"| `{name}` |" in text
    for number in re.findall(r"arXiv:(\d{4}\.\d+)", entry.source):
        assert f"https://arxiv.org/abs/{number}" in text
    for link in re.findall(r"\]\((?!http|#)(.*?)\)", text):
        assert (ROOT / kinds.FOLDER / link).exists(), link


@pytest.mark.parametrize("entry", DRAWN, ids=[f"{entry.kind}-{entry.option}" for entry in DRAWN])
def test_a_drawing_is_small_and_well_formed(entry: catalog.Entry) -> None:
    content = (ROOT / kinds.FOLDER / entry.kind / f"{entry.option}.svg").read_bytes()
    assert len(content) < 12_000 and entry.option in (parsed(content).findtext("{*}title") or "")


@pytest.mark.parametrize("option", [entry.option for entry in kinds.own_options("activation")])
def test_the_curves_are_the_activation_and_its_derivative(option: str) -> None:
    z, lines = activation_lines(catalog.build("activation", option))
    f = catalog.build("activation", option).double().eval()
    x = torch.tensor(z, dtype=torch.float64)[None, None, :, None]
    with torch.no_grad():
        now, ahead, behind = (f(x + move).flatten().tolist() for move in (0, 1e-6, -1e-6))
    assert len(z) == 80 and lines["f"] == pytest.approx([min(max(y, -10), 10) for y in now], abs=0.0006)
    if figures(catalog.build("activation", option)).pointwise:
        differences = [(a - b) / 2e-6 for a, b in zip(ahead, behind, strict=True)]
        assert lines["f'"] == pytest.approx([min(max(y, -10), 10) for y in differences], abs=0.0006)


@pytest.mark.parametrize("option", [entry.option for entry in kinds.own_options("activation")])
def test_the_gain_is_that_of_the_initializers(option: str) -> None:
    found = figures(catalog.build("activation", option))
    if found.gain and found.pointwise:
        assert found.gain == pytest.approx(auto_gain(catalog.build("activation", option)), rel=1e-4)


class Curve(torch.nn.Module):
    """Any function as an activation."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def test_figures_against_integrals_by_another_rule() -> None:
    found = figures(Curve(torch.tanh))

    def mean(f):
        return integrate.quad(lambda z: f(z) * stats.norm.pdf(z), -12, 12)[0]

    second, along = mean(lambda z: math.tanh(z) ** 2), mean(lambda z: z * math.tanh(z))
    assert found.mean == pytest.approx(0, abs=1e-12) and found.second_moment == pytest.approx(second)
    assert found.slope == pytest.approx(mean(lambda z: (1 - math.tanh(z) ** 2) ** 2))
    assert found.bent == pytest.approx(1 - along**2 / second)
    edge = math.acosh(10)  # where 1 / cosh(z)^2 falls below 0.01
    assert found.flat == pytest.approx(2 * stats.norm.sf(edge), abs=1e-3)
    assert found.gain == pytest.approx(second**-0.5) and found.pointwise


@pytest.mark.parametrize(
    ("f", "wanted"),
    [
        (torch.relu, {"mean": 1 / math.sqrt(2 * math.pi), "second_moment": 0.5, "slope": 0.5, "flat": 0.5}),
        (lambda x: x, {"mean": 0, "second_moment": 1, "slope": 1, "flat": 0, "bent": 0, "gain": 1}),
        (torch.square, {"mean": 1, "second_moment": 3, "slope": 4, "bent": 1}),
        (lambda x: 0 * x, {"mean": 0, "slope": 0, "flat": 1, "bent": 0, "gain": 0}),
    ],
    ids=["relu", "identity", "square", "zero"],
)
def test_figures_that_are_known(f, wanted: dict[str, float]) -> None:
    found = figures(Curve(f))
    for name, value in wanted.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-4), name


def test_what_looks_at_its_neighbours_is_found_out() -> None:
    assert not figures(Curve(lambda x: torch.relu(x - x.mean()))).pointwise


def test_digits_are_the_same_on_every_machine() -> None:
    assert [digits(value) for value in (0.12345, -1e-9, 1 / 3, 1234.5, -0.5)] == [
        "0.123",
        "0",
        "0.333",
        "1.23e+03",
        "-0.5",
    ]
    assert digits(0.1235) == digits(0.1235 - 1e-15) and digits(0.25) == "0.25"


def test_measured_costs_join_the_figures_and_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "activations.json"
    for content in (None, "{", "[]", '{"activations": [{}]}', '{"activations": 3}'):
        if content is not None:
            file.write_text(content)
        assert costs.measured(file) == {}
    one = {
        "activation": "silu",
        "ns": {"ours": 1.23456, "plain": 2},
        "bytes": {"ours": 4.0, "plain": 8.0},
        "own": False,
    }
    file.write_text(json.dumps({"activations": [one], "machine": {}}))
    found = costs.measured(file)
    monkeypatch.setattr(costs, "measured", lambda: found)
    assert costs.activation_numbers("silu")["ns"] == "1.23" and costs.activation_numbers("silu")["bytes"] == "4"
    assert costs.activation_numbers("relu")["ns"] == "not measured"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-8, "1e-08"),
        (True, "true"),
        (None, "null"),
        ([0.9, 0.999], "[0.9, 0.999]"),
        ("auto", "auto"),
        ({"_target_": "a.B", "beta": 1.0, "space": {}}, "a.B(beta=1)"),
    ],
)
def test_defaults_are_shown_as_they_are_typed(value: object, text: str) -> None:
    assert kinds.shown(value) == text


def test_a_course_is_that_of_the_schedule() -> None:
    done, lines = course_lines(kinds.rates(catalog.entry("lr_schedule", "warmup_cosine")))
    (course,) = lines.values()
    assert len(course) == len(done) == kinds.STEPS and max(course) == pytest.approx(1, abs=0.005)
    assert course[0] < 0.25 and course[-1] < 0.025 and 0 < done[0] < done[-1] < 1


def test_every_setting_of_a_search_is_in_its_table() -> None:
    """Its name, and the default of conf/search; no other names."""
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `([^|]*)` \|", text, re.MULTILINE))
    known: dict[str, Any] = {}
    for name in ("settings", "ablation", "pareto"):
        content = OmegaConf.load(catalog.CONF / "search" / f"{name}.yaml")
        for path, value in leaves(OmegaConf.masked_copy(content, [k for k in content if k not in NO_SETTINGS])):
            known.setdefault(path, value)
    known |= {"kinds.KIND": "all", "domains": {}}
    known = {path: value for path, value in known.items() if not re.match(r"(kinds|domains)\.(?!KIND)", path)}
    assert set(rows) == set(known)
    for path, shown in rows.items():
        value = known[path]
        assert yaml.safe_load(shown) == (list(value) if OmegaConf.is_list(value) else value), path


MODES = {"cost": "pareto"} | dict.fromkeys(("scientific", "nuisance", "per_arm", "min_per_arm", "keep"), "ablation")


def test_every_example_of_a_setting_can_be_typed() -> None:
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\| `([\w.]+)` \| `[^`]*` \|.*\| `(.*)` \|$", text, re.MULTILINE)
    assert len(examples) > 30
    for name, typed in examples:
        read([f"search={MODES.get(name, 'joint')}", *([typed] if name != "mode" else [])])


def test_the_readme_counts_the_catalogue() -> None:
    count = sum(len(catalog.options(kind)) for kind in catalog.KINDS)
    assert f"{count} components in eight kinds" in (ROOT / "README.md").read_text(encoding="utf-8")

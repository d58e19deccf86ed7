"""Optuna's pictures of a search: what they show is what the trials have, and a page of them obeys no name."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from denoise.config import catalog
from denoise.metrics import STEP_SECONDS
from search.analysis import pareto_front
from search.analysis.importance import Importance, Share
from search.analysis.pareto_front import Front
from search.report.forms import interactive as page
from search.report.plots.interactive import Plot, Shown, plots
from search.report.plots.named_study import look, parameter
from search.tracking.record import Record
from tests import chromium, devtools

NAME = "mine_</script><script>alert(1)</script>&amp;'\""  # an option, as its user may call it
OPTIONS = ["silu", "gelu", NAME]
LR = FloatDistribution(1e-4, 1e-1, log=True)
SHARES = [Share("activation", 0.75, 0.2, 0.5, 0.4), Share("optimizer.adamw.lr", 0.25, 0.5, 0.5, 0.4)]
MEASURED = Importance(12, SHARES, 0.4)
TITLES = ["History", "Learning curves", "Slices", "Parallel coordinates", "Importance", "Cost against quality"]


def trial(number: int, curve: dict[int, float], state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    complete = state == TrialState.COMPLETE
    made = create_trial(
        state=state,
        value=list(curve.values())[-1] if complete else None,
        params={"activation": OPTIONS[number % 3], "optimizer.adamw.lr": 1e-3 * (1 + number)},
        distributions={"activation": CategoricalDistribution(OPTIONS), "optimizer.adamw.lr": LR},
        intermediate_values=curve,
    )
    made.number = number
    return made


PRUNED, FAILED = TrialState.PRUNED, TrialState.FAIL
TRIALS = [
    *(trial(k, {10: 0.9 - 0.03 * k, 20: 0.5 + 0.01 * ((5 * k) % 12)}) for k in range(12)),
    trial(12, {10: 0.95}, PRUNED),
    trial(13, {10: 0.6, 20: 1e9}, PRUNED),
    trial(14, {10: math.inf, 20: math.nan}, FAILED),
    trial(15, {}, FAILED),
]
RECORDS = [
    Record(
        k, f"{k:032x}", "complete", 20, [f"activation=a{k}"], t.values[0], metrics={STEP_SECONDS: 0.01 * (k % 5 + 1)}
    )
    for k, t in enumerate(TRIALS[:12])
]


def front(records: list[Record] = RECORDS) -> Front:
    return pareto_front.find(records, STEP_SECONDS, ["activation=a0"])


def drawn(trials: list[FrozenTrial], importance: Importance | None = MEASURED, **more: Any) -> dict[str, Plot]:
    shown = Shown(trials, {0: "baseline", 1: NAME}, importance, more.get("front", front()))
    return {plot.title: plot for plot in plots(shown)}


def figures(plot: Plot) -> list[dict[str, Any]]:
    """A picture's figures: JSON as a browser reads it, without NaN."""
    return [json.loads(text, parse_constant=lambda name: pytest.fail(name)) for text in plot.figures]


@pytest.fixture(scope="module")
def all_of_them() -> dict[str, Plot]:
    return drawn(TRIALS)


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_a_parameter_has_the_name_that_a_leaderboard_gives_it(kind: str) -> None:
    assert parameter(kind) == kind
    assert parameter(f"{kind}@parts.residual.{kind}") == f"{kind} in residual"
    for option in catalog.options(kind):
        for name in catalog.entry(kind, option).space:
            assert parameter(f"{kind}.{option}.{name}") == f"{option} {name}"
            assert parameter(f"{kind}@parts.transformer.{kind}.{option}.{name}") == f"{option} {name} in transformer"


def test_a_path_that_has_no_shorter_name_keeps_its_own() -> None:
    assert parameter("trainer.gradient_clip") == "trainer.gradient_clip" and parameter("<b>") == "&lt;b&gt;"


def test_trials_are_compared_at_the_last_step_that_half_of_them_reached() -> None:
    curves: list[dict[int, float]] = [
        {10: 1.0, 20: 0.5, 30: 0.4},
        {10: 1.1, 20: 0.6},
        {10: 1.2},
        {10: 5.0},
        {10: math.nan},
    ]
    found = look([trial(k, curve, PRUNED) for k, curve in enumerate(curves)])
    assert (found.step, found.values) == (20, {0: 0.5, 1: 0.6})
    found = look(TRIALS)
    values = [0.5 + 0.01 * ((5 * k) % 12) for k in range(12)] + [1e9]
    low, high = np.percentile(values, [25, 75])
    assert found.step == 20 and list(found.values) == [*range(12), 13]
    assert found.edge == pytest.approx(high + 3 * (high - low))


def test_history_shows_each_trial_and_the_best_so_far(all_of_them: dict[str, Plot]) -> None:
    ((dots, line, _),) = (figure["data"] for figure in figures(all_of_them["History"]))
    values = [trial.intermediate_values[20] for trial in TRIALS[:12]]
    edge = look(TRIALS).edge
    assert dots["x"] == [*range(12), 13] and dots["y"] == pytest.approx([*values, edge])
    assert line["x"] == list(range(16)) and line["y"] == pytest.approx([*np.minimum.accumulate(values), *[0.5] * 4])
    assert (
        "step 20, which 3 of 16 did not reach; far worse, and drawn at the upper edge: 1."
        in all_of_them["History"].says
    )


def test_curves_are_named_by_what_differs_and_show_all_trials_that_were_measured(all_of_them: dict[str, Plot]) -> None:
    (figure,) = figures(all_of_them["Learning curves"])
    assert [trace["name"].split(":")[0] for trace in figure["data"]] == [f"trial {k}" for k in range(15)]
    assert figure["data"][0]["name"] == "trial 0: baseline" and figure["data"][3]["y"] == pytest.approx([0.81, 0.53])
    assert figure["data"][0]["line"]["width"] > figure["data"][3]["line"]["width"]
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < 0.5 and 0.6 < high < 1


def test_slices_show_each_option_by_its_name_the_best_first(all_of_them: dict[str, Plot]) -> None:
    (figure,) = figures(all_of_them["Slices"])
    options, rates = figure["data"]
    assert len(options["x"]) == len(rates["x"]) == 13 and figure["layout"]["xaxis2"]["type"] == "log"
    assert rates["x"] == pytest.approx([1e-3 * (1 + k) for k in [*range(12), 13]])
    best = {name: min(y for x, y in zip(options["x"], options["y"], strict=True) if x == name) for name in options["x"]}
    assert list(best) == sorted(best, key=best.__getitem__) == figure["layout"]["xaxis"]["categoryarray"]
    assert set(best) == {"silu", "gelu", NAME.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    assert [figure["layout"][axis]["title"]["text"] for axis in ("xaxis", "xaxis2")] == ["activation", "adamw lr"]


def test_importance_has_the_figures_of_the_report(all_of_them: dict[str, Plot]) -> None:
    (figure,) = figures(all_of_them["Importance"])
    ped, fanova = figure["data"]
    assert ped["y"] == fanova["y"] == ["adamw lr", "activation"], "the longest bar is the upper one"
    assert ped["x"] == [0.25, 0.75] and ped["text"] == ["25%", "75%*"]
    assert fanova["x"] == [0.5, 0.2] and fanova["text"] == ["50%*", "20%"]


def test_the_front_is_that_of_the_report(all_of_them: dict[str, Plot]) -> None:
    (figure,) = figures(all_of_them["Cost against quality"])
    behind, best = figure["data"]
    there = [(one.metrics[STEP_SECONDS], one.value) for one in front().best]
    assert sorted(zip(best["x"], best["y"], strict=True)) == sorted(there)
    assert len(behind["x"]) == 12 - len(there)
    assert all(f'"number": {one.number}' in "".join(best["text"]) for one in front().best), "the trials' own numbers"


def test_a_picture_that_would_be_nearly_empty_is_left_out_and_said() -> None:
    found = drawn(TRIALS[12:], Importance(2, why="too few trials to say"), front=front(RECORDS[:3]))
    assert list(found) == TITLES and not any(plot.figures for plot in found.values())
    assert found["History"].says == "fewer than 4 trials have a value at one step."
    assert found["Importance"].says == "too few trials to say (2 complete)."
    assert found["Cost against quality"].says == "fewer than 4 complete trials have a cost."
    assert page.render("a search", list(found.values())) == b"", "no library for no picture"
    same = [trial(0, {20: 0.1 * k}) for k in range(8)]
    for number, one in enumerate(same):
        one.number = number
    found = drawn(same, Importance(12, SHARES[:1]))
    assert found["History"].figures and not found["Slices"].figures and not found["Parallel coordinates"].figures
    assert found["Importance"].says == "only one parameter is in every trial."
    assert drawn(same, None)["Importance"].says == "it is measured for one objective."


def test_a_page_is_one_file_that_fetches_nothing_and_obeys_no_name(all_of_them: dict[str, Plot]) -> None:
    content = page.render(NAME, [*all_of_them.values(), Plot(NAME, NAME)]).decode()
    scripts = re.findall(r"<script(?: [^>]*)?>(.*?)</script>", content, re.DOTALL)
    (library,) = [text for text in scripts if len(text) > 1_000_000]
    rest = content.replace(library, "")
    assert len(scripts) == 2 + sum(len(plot.figures) for plot in all_of_them.values())
    assert "alert(1)</script>" not in rest and not re.search(r"\b(src|href)=|url\(|@import|https?://", rest)
    assert "default-src 'none'" in rest and "prefers-color-scheme: dark" in rest
    assert len(content) < 5_500_000 and all(f"<h2>{title}</h2>" in rest for title in TITLES)


@pytest.mark.browser
@pytest.mark.skipif(not chromium.PROGRAM, reason=chromium.WHY_NOT)
def test_each_figure_is_drawn_in_a_browser(all_of_them: dict[str, Plot], tmp_path: Path) -> None:
    if not chromium.works():
        pytest.skip("Chromium does not show a page on this machine")
    path = tmp_path / "interactive.html"
    path.write_bytes(page.render(NAME, list(all_of_them.values())))
    figures = sum(len(plot.figures) for plot in all_of_them.values())
    with devtools.page() as browser:
        browser.open(path.as_uri(), f"document.querySelectorAll('.plot.js-plotly-plot').length == {figures}")
        said = browser.value("document.body.textContent")
    assert "adamw lr" in said and "mine_</script>" in said

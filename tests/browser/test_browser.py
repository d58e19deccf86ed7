"""The pages that follow a search, in a real browser: MLflow's pages as make ui serves them, and the report.

With DENOISE_PICTURES=FOLDER the search is a real one, and each page is kept there as a picture: docs/pages is made so.
"""

import json
import math
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from search.__main__ import main
from search.analysis import ranking
from search.console import mlflow_pages
from search.tracking.tracker import Tracker
from tests import chromium, devtools, tiny
from tests.devtools import Page
from tests.mlflow_server import answers
from tests.process import free_port, start, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not chromium.PROGRAM, reason=chromium.WHY_NOT),
]
SMALL = [*tiny.TINY, "data.batch_size=16", "trainer.max_steps=8", "trainer.val_every=2", "search.n_trials=8"]
SMALL += ["search.enqueue=[]", "search.confirm.finalists=1", "search.confirm.seeds=3", "search.confirm.test_samples=16"]
SMALL += ["search.name=digits-small"]
SHOWN = [
    "search=ablation",
    "search.scientific=[activation]",
    "search.confirm.seeds=3",
    "search.name=digits-activations",
]
SHOWN += ["search.kinds.activation=[silu,relu,gelu,tanh,sigmoid,mish]"]
FOLDER = os.environ.get("DENOISE_PICTURES", "")
RED_CROSS = "XCircle"  # of a run that failed, in the column of its state
BYTES = 12_000  # of a trial in the answer that the table is made of
COLOURS = 96  # of a kept picture: text stays sharp, and a file small
A4, MARGIN = (794, 1123), 57  # pixels of a sheet, and of what a printer leaves white


class Served:
    """A store with a search, and the pages that make ui prints of it, by what they are."""

    def __init__(self, store: Path, said: str) -> None:
        self.store, self.pages = store, dict(re.findall(r"^(.+?): +(http\S+)", said, re.MULTILINE))
        self.server = self.pages["MLflow"].partition("/#")[0]
        self.tracker = Tracker(None, "denoise-search", store)
        (self.parent,) = self.tracker.searches()
        self.records = self.tracker.records(self.parent.info.run_id)

    def run(self, run_id: str, more: str = "") -> str:
        return f"{self.server}/{mlflow_pages.run_page(self.tracker.experiment_id, run_id, more)}"

    def best_first(self) -> list[str]:
        """The names of the trials."""
        ranked = sorted(self.records, key=lambda one: one.value if one.value is not None else math.inf)
        return [self.tracker.name(one.run_id) for one in ranked]


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was searched in at one place and copied to another, the first one gone."""
    if not chromium.works():
        pytest.skip("Chromium does not show a page on this machine")
    folder = tmp_path_factory.mktemp("pages")
    assert main(["search", f"store={folder / 'runs'}", *(SHOWN if FOLDER else SMALL)]) == 0
    shutil.copytree(folder / "runs", folder / "elsewhere")
    shutil.rmtree(folder / "runs")
    return folder / "elsewhere"


@pytest.fixture(scope="module")
def served(moved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    said, port = tmp_path_factory.mktemp("ui") / "said", free_port()
    process = start(["ui", f"store={moved}", f"port={port}"], said)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"), process.is_alive, said)
        yield Served(moved, said.read_text())
    finally:
        process.terminate()
        process.join()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with devtools.page() as made:
        yield made


@pytest.fixture
def keep(page: Page, tmp_path: Path) -> Callable[[str], Path]:
    """Keep a picture of what the page shows, under a name."""

    def kept(name: str) -> Path:
        path = page.picture((Path(FOLDER).resolve() if FOLDER else tmp_path) / f"{name}.png")
        small = Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        return path

    return kept


def says(*texts: str) -> str:
    """That all of these are to be read on a page, in JavaScript."""
    read = "document.body.innerText.replace(/\\s+/g, ' ')"
    return " && ".join(f"{read}.includes({json.dumps(' '.join(text.split()))})" for text in texts)


def test_runs_table(served: Served, page: Page, keep: Callable[[str], Path]) -> None:
    """It opens in the mode of trainings on the trials, the best first; what was stopped early is no error."""
    names = served.best_first()
    page.open(served.pages["MLflow"], says("val/loss", names[0], names[-1]))
    text = page.text()
    assert [text.index(name) for name in names] == sorted(text.index(name) for name in names), "sorted by val/loss"
    assert {one.outcome for one in served.records} == {"complete", "pruned"} and RED_CROSS not in page.html()
    (size,) = [each.size for each in page.answers.values() if each.address.endswith("runs/search")]
    assert size / len(names) < BYTES, "what is recorded of a trial"
    assert "Evaluation runs" not in text and "confirm" not in text.replace("'confirm'", "")
    heads = page.value(
        "[...document.querySelectorAll('.ag-header-cell')].map(e => [e.getBoundingClientRect().x, e.innerText])"
    )
    shown = [name for _, name in sorted(heads) if name]
    assert shown.index("val/loss") < shown.index("outcome") < shown.index("activation")
    assert keep("runs_table").stat().st_size > 20_000


def test_search_page(served: Served, page: Page, keep: Callable[[str], Path]) -> None:
    """The parent's page begins with the answer, in the words of the report, and has all its columns in the window."""
    assert served.pages["the latest search"] == served.run(served.parent.info.run_id)
    page.open(served.pages["the latest search"], says("best/val/loss", "About this run"))
    assert "No description" not in page.text() and "Evaluation runs" not in page.text()
    assert page.value("[...document.querySelectorAll('.note-view-outer-container')].every(e => e.offsetWidth < 800)")
    page.until("[...document.querySelectorAll('button')].some(e => e.innerText == 'Show more')")
    page.click("[...document.querySelectorAll('button')].find(e => e.innerText == 'Show more')")
    page.until(says("Leaderboard"))
    keep("search_page")


def test_trial_page(served: Served, page: Page, keep: Callable[[str], Path]) -> None:
    """A trial says what differs, how it ended, on which data, and how to train it again."""
    one = next(one for one in served.records if one.outcome == "pruned" and one.number)
    page.open(served.run(one.run_id), says("Train it again", "Metrics (", served.parent.info.run_name))
    text = page.text()
    assert "Differs from the baseline" in text and re.search(rf"make reproduce .*RUN={one.run_id}", text)
    assert "digits" in text and re.search(r"Pruned after \d+ steps", text)
    metrics = re.search(r"Metrics \((\d+)\)", text)
    assert metrics is not None and int(metrics[1]) <= 25
    keep("trial_page")


def test_compare_page(served: Served, page: Page, keep: Callable[[str], Path]) -> None:
    """Six trials beside each other, each by its name."""
    runs = [one.run_id for one in ranking.rank(served.records)[:6]]
    asked = {"runs": json.dumps(runs), "experiments": json.dumps([served.tracker.experiment_id])}
    names = [served.tracker.name(run) for run in runs]
    page.open(
        f"{served.server}/#/compare-runs?{urllib.parse.urlencode(asked)}&{mlflow_pages.MODE}",
        says("Comparing 6 Runs", "Parallel Coordinates Plot", "val/loss_band_0", *names),
    )
    page.until("document.querySelectorAll('.js-plotly-plot .y-axis, .js-plotly-plot .axis').length > 2")
    choose_metric(page, "val/loss", instead="cost/parameters")
    keep("compare_page")


def choose_metric(page: Page, name: str, instead: str) -> None:
    """Choose another metric for the picture than that which is first in the alphabet."""

    def labelled(part: str, label: str) -> str:
        return f"[...document.querySelectorAll('[class*={part}]')].find(e => e.innerText == '{label}')"

    page.click(f"{labelled('selection-item-content', instead)}.nextElementSibling")
    page.until(f"{labelled('selection-item-content', instead)} === undefined")
    page.click("document.querySelectorAll('input[type=search]')[1].closest('[class*=select-selector]')")
    page.until("document.querySelector('[class*=item-option-content]') !== null")
    page.call("Input.insertText", text=name)
    page.until(f"{labelled('item-option-content', name)} !== undefined")
    page.value(f"{labelled('item-option-content', name)}.click()")
    page.until(f"{labelled('selection-item-content', name)} !== undefined")
    page.click("document.querySelector('h1, h2, h3')")  # the list closes
    page.until("[...document.querySelectorAll('[class*=select-dropdown]')].every(e => e.offsetParent === null)")


def test_image_grid(served: Served, page: Page, keep: Callable[[str], Path]) -> None:
    """What the trials draw, beside each other, each under its name."""
    drawn = [served.tracker.name(one.run_id) for one in served.records if one.outcome == "complete"]
    grid = (
        "[...document.querySelectorAll('img')].filter(e => e.src.includes('get-artifact') || e.src.startsWith('blob:'))"
    )
    page.open(
        served.pages["what the trials draw"], f"{grid}.filter(e => e.naturalWidth > 0).length >= {len(drawn[:6])}"
    )
    sizes = page.value(f"{grid}.map(e => [e.naturalWidth, e.getBoundingClientRect().y])")
    assert all(width >= 256 for width, _ in sizes), "small pictures are enlarged"
    assert len(sizes) < 2 or sizes[0][1] == sizes[1][1], "side by side"
    assert all(name in page.text() for name in drawn)
    keep("image_grid")


def test_champion_page(served: Served, page: Page, keep: Callable[[str], Path]) -> None:
    """The registered model of the question has its champion, what it is worth, and how it is loaded."""
    (model,) = served.tracker.client.search_registered_models()
    address = f"{served.server}/#/models/{model.name}"
    page.open(f"{address}?{mlflow_pages.MODE}", says("champion"))
    version = f"{address}/versions/{model.latest_versions[0].version}?{mlflow_pages.MODE}"
    source = served.tracker.name(model.latest_versions[0].run_id)
    page.open(version, says("champion", source, f"models:/{model.name}@champion", "val/loss"))
    keep("champion_page")


def test_pictures_of_a_store_that_was_moved(served: Served, page: Page) -> None:
    """Each picture of each trial is where MLflow's pages look for it, also after the store was copied elsewhere."""
    one = next(one for one in served.records if one.outcome == "complete")
    image = "[...document.querySelectorAll('img')].some(e => /^(blob|http)/.test(e.src) && e.naturalWidth >= 256)"
    page.open(served.run(one.run_id, "/artifacts/samples.png"), f"{says('samples.png')} && {image}")
    assert "Loading artifact failed" not in page.text()


@pytest.mark.parametrize("form", ["light", "dark", "phone", "print"])
def test_report(
    served: Served,
    page: Page,
    form: str,
    keep: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The report opens offline, in light and dark, on a phone and in print."""
    assert main(["report", f"store={served.store}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    address = (served.store / "report.html").as_uri()
    page.size(*(A4 if form == "print" else (390, 900) if form == "phone" else (1400, 900)))
    page.media("print" if form == "print" else "", "dark" if form == "dark" else "light")
    page.open(address, "document.readyState == 'complete'")
    answer = page.text().split(". ")[0][-60:]
    assert answer in said
    assert page.value("document.documentElement.scrollWidth <= window.innerWidth"), "nothing stands out to the right"
    if form == "print":
        page.value(f"document.body.style.margin = '{MARGIN}px'")
    path = page.picture(tmp_path / "phone.png") if form == "phone" else keep(f"report_{form}")
    corner = Image.open(path).convert("L").getpixel((2, 2))
    assert isinstance(corner, int) and (corner < 60) == (form == "dark")
    if form == "print":
        assert chromium.pdf(address, tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.media()
    page.size(1400, 900)

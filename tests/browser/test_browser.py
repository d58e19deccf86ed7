"""The pages that follow a search, in a real browser: MLflow's pages as make ui serves them, and the report.

With DENOISE_PICTURES=FOLDER each page is kept there as a picture; those under docs/ are made so.
"""

import json
import math
import os
import re
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.__main__ import main
from search.tracking.tracker import Tracker
from tests import chromium, tiny
from tests.mlflow_server import answers
from tests.process import free_port, start, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not chromium.PROGRAM, reason=chromium.WHY_NOT),
]
SMALL = [*tiny.TINY, "data.batch_size=16", "trainer.max_steps=8", "trainer.val_every=2", "search.n_trials=8"]
SMALL += ["search.enqueue=[]", "search.confirm.finalists=1", "search.confirm.seeds=3", "search.confirm.test_samples=16"]
RED_CROSS = "XCircle"  # of a run that failed, in the column of its state


class Served:
    """A store with a search, and the address where its MLflow answers."""

    def __init__(self, store: Path, address: str) -> None:
        self.store, self.address = store, address
        self.tracker = Tracker(None, "denoise-search", store)
        (self.parent,) = self.tracker.searches()
        self.records = self.tracker.records(self.parent.info.run_id)

    @property
    def experiment(self) -> str:
        return f"{self.address}/#/experiments/{self.tracker.experiment_id}"

    def text(self, address: str, awaits: str = "") -> str:
        return chromium.text(chromium.dom(address, awaits))


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was searched in at one place and copied to another, the first one gone."""
    if not chromium.works():
        pytest.skip("Chromium does not show a page on this machine")
    folder = tmp_path_factory.mktemp("pages")
    assert main(["search", f"store={folder / 'runs'}", *SMALL, "search.name=pages"]) == 0
    shutil.copytree(folder / "runs", folder / "elsewhere")
    shutil.rmtree(folder / "runs")
    return folder / "elsewhere"


@pytest.fixture(scope="module")
def served(moved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    said, port = tmp_path_factory.mktemp("ui") / "said", free_port()
    process = start(["ui", f"store={moved}", f"port={port}"], said)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"), process.is_alive, said)
        (address,) = re.findall(r"MLflow: (\S+)", said.read_text())
        found = Served(moved, address.partition("/#")[0])
        assert address.startswith(found.experiment)
        yield found
    finally:
        process.terminate()
        process.join()


@pytest.fixture
def keep(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a page's picture goes."""
    folder = Path(os.environ.get("DENOISE_PICTURES", tmp_path)).resolve()
    return folder / f"{request.node.name.removeprefix('test_')}.png"


def test_runs_table(served: Served, keep: Path) -> None:
    """It opens on the trials, the best first, each named by what it is; what was stopped early is no error."""
    address = f"{served.experiment}/runs?workflowType=machine_learning&viewStateShareKey=trials"
    page = chromium.dom(address, "000 baseline")
    ranked = sorted(served.records, key=lambda one: one.value if one.value is not None else math.inf)
    names = [served.tracker.name(one.run_id) for one in ranked]
    said = chromium.text(page)
    places = [said.index(name) for name in names]
    assert places == sorted(places), "sorted by val/loss"
    assert {one.outcome for one in ranked} == {"complete", "pruned"} and RED_CROSS not in page
    assert chromium.picture(address, keep).stat().st_size > 20_000


def test_search_page(served: Served, keep: Path) -> None:
    """The parent's page begins with the answer, in the words of the report."""
    address = f"{served.experiment}/runs/{served.parent.info.run_id}"
    said = served.text(address, "best/val/loss")
    assert "No description" not in said and "best/val/loss" in said
    chromium.picture(address, keep)


def test_trial_page(served: Served, keep: Path) -> None:
    """A trial says what differs, how it ended, on which data, and how to train it again."""
    one = next(one for one in served.records if one.outcome == "pruned" and one.number)
    address = f"{served.experiment}/runs/{one.run_id}"
    said = served.text(address, "Train it again")
    assert "Differs from the baseline" in said and "Train it again" in said
    assert re.search(rf"make reproduce .*RUN={one.run_id}", said)
    assert "digits" in said and re.search(r"Pruned after \d steps", said)
    metrics = re.search(r"Metrics \((\d+)\)", said)
    assert metrics is not None and int(metrics[1]) <= 25
    chromium.picture(address, keep)


def test_compare_page(served: Served, keep: Path) -> None:
    """Six trials beside each other."""
    runs = [one.run_id for one in served.records[:6]]
    asked = {"runs": json.dumps(runs), "experiments": json.dumps([served.tracker.experiment_id])}
    address = f"{served.address}/#/compare-runs?{urllib.parse.urlencode(asked)}"
    said = served.text(address, "Parallel Coordinates Plot")
    assert "Comparing 6 Runs" in said and "Parallel Coordinates Plot" in said
    chromium.picture(address, keep)


def test_champion_page(served: Served, keep: Path) -> None:
    """The registered model of the question has its champion, what it is worth, and how it is loaded."""
    (model,) = served.tracker.client.search_registered_models()
    address = f"{served.address}/#/models/{model.name}"
    assert "champion" in served.text(address, "champion")
    version = f"{address}/versions/{model.latest_versions[0].version}"
    loads = f"models:/{model.name}@champion"
    assert loads in served.text(version, loads)
    chromium.picture(version, keep)


def test_pictures_of_a_store_that_was_moved(served: Served) -> None:
    """Each picture of each trial is where MLflow's pages look for it, also after the store was copied elsewhere."""
    one = next(one for one in served.records if one.outcome == "complete")
    address = f"{served.experiment}/runs/{one.run_id}/artifacts/samples.png"
    page = chromium.dom(address, "samples.png")
    assert "samples.png" in page and re.search(r"<img[^>]+src=\"(blob|http|/|get-artifact)[^\"]*\"", page)
    assert "Loading artifact failed" not in page


@pytest.mark.parametrize("form", ["light", "dark", "phone", "print"])
def test_report(served: Served, form: str, keep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report opens offline, in light and dark, on a phone and in print."""
    assert main(["report", f"store={served.store}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    address = (served.store / "report.html").as_uri()
    text = served.text(address)
    answer = text.split(". ")[0][-60:]
    assert answer in said
    if form == "print":
        assert chromium.pdf(address, tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        return
    width, more = (390 if form == "phone" else 1100), [chromium.DARK] * (form == "dark")
    path = chromium.picture(address, keep.with_name(f"report_{form}.png"), width, 1400, *more)
    from PIL import Image

    corner = Image.open(path).convert("L").getpixel((2, 2))
    assert isinstance(corner, int) and (corner < 60) == (form == "dark")

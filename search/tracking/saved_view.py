"""How MLflow's page of runs opens: the trials by val/loss, each with what the searches vary; or what they draw.

MLflow keeps a page that was shared as a tag of the experiment, and opens it by the tag's name in the address; the tag's
form is that of release 3.17, held by tests in a browser. There are two: `trials`, and `samples` with its pictures only.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from denoise.config import catalog
from denoise.metrics import SAMPLES_PER_SECOND, VAL_LOSS
from search.console import mlflow_pages
from search.console.mlflow_pages import IMAGES, TRIALS
from search.runtime import retry
from search.tracking.tags import SAMPLES, Tag
from search.tracking.tracker import Tracker

TAG = "mlflow.sharedViewState."
WIDTHS = {"attributes.`Run Name`": 300, f"metrics.`{SAMPLES_PER_SECOND}`": 170}  # pixels: a name says what differs
WIDTH = 105  # of any other column
# on another seed, or at another shape, a loss is no rival of a trial's; in the page's field, where it can be taken out
RIVALS = f"tags.{Tag.ROLE} != 'confirm' and tags.{Tag.ROLE} != 'transfer'"


def columns(kinds: Sequence[str] = tuple(catalog.KINDS)) -> list[str]:
    """What of a run is a column, in order, by MLflow's names. `kinds`: those that some search varies."""
    metrics = [f"metrics.`{name}`" for name in (VAL_LOSS, SAMPLES_PER_SECOND)]
    chosen = [f"params.`{name}`" for name in (*kinds, "optimizer.lr")]
    return [*metrics, f"tags.`{Tag.OUTCOME}`", *chosen, f"tags.`{Tag.DIFFERS}`"]


def state(kinds: Sequence[str] = tuple(catalog.KINDS)) -> dict[str, Any]:
    """The page of trials, as MLflow describes one."""
    shown = columns(kinds)
    return {
        "orderByKey": f"metrics.`{VAL_LOSS}`",
        "orderByAsc": True,
        "searchFilter": RIVALS,
        "selectedColumns": shown,
        "columnOrder": ["attributes.`Run Name`", *shown],
        "columnWidths": dict.fromkeys(shown, WIDTH) | WIDTHS,
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [_section("loss", VAL_LOSS, 2, 360), _section("images", SAMPLES, 1, 460)],
        "compareRunCharts": [*_loss(), _images()],
    }


def images_state() -> dict[str, Any]:
    """The page of pictures: those of the best trials beside each other."""
    shown = {"compareRunSections": [_section("images", SAMPLES, 1, 640)], "compareRunCharts": [_images()]}
    return state() | shown | {"runListHidden": True, "runsHiddenMode": "FIRST_20_RUNS"}


def write(tracker: Tracker) -> None:
    """Give the experiment the views, where it has none or others."""
    searches = tracker.searches()
    varied = {kind for run in searches for kind in run.data.params.get("kinds", ", ".join(catalog.KINDS)).split(", ")}
    kinds = [kind for kind in catalog.KINDS if kind in varied or not searches]
    tags = tracker.client.get_experiment(tracker.experiment_id).tags
    for name, view in ((TRIALS, state(kinds)), (IMAGES, images_state())):
        packed = base64.b64encode(zlib.compress(json.dumps(view).encode())).decode()
        text = json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})
        if tags.get(TAG + name) != text:
            retry.raced(tracker.client.set_experiment_tag, tracker.experiment_id, TAG + name, text)


def addresses(server: str, tracker: Tracker) -> list[str]:
    """Where a server shows the views, and the latest search's run; a line each, what it is first."""
    found = {"MLflow": mlflow_pages.view_page(tracker.experiment_id, TRIALS)}
    found |= {"what the trials draw": mlflow_pages.view_page(tracker.experiment_id, IMAGES)}
    if latest := tracker.searches()[:1]:
        found |= {"the latest search": mlflow_pages.run_page(tracker.experiment_id, latest[0].info.run_id)}
    return [f"{what + ':':<21} {server}/{page}" for what, page in found.items()]


def _section(uuid: str, name: str, columns: int, height: int) -> dict[str, Any]:
    shown = {"uuid": uuid, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return shown | {"columns": columns, "cardHeight": height}


def _chart(kind: str, section: str) -> dict[str, Any]:
    own = {"type": kind, "uuid": f"{section}-{kind}", "metricSectionId": section, "metricKey": VAL_LOSS}
    return own | {"deleted": False, "isGenerated": False, "runsCountToCompare": 20}


def _loss() -> list[dict[str, Any]]:
    course = {"scaleType": "linear", "xAxisKey": "step", "selectedMetricKeys": [VAL_LOSS], "lineSmoothness": 0}
    return [_chart("BAR", "loss"), _chart("LINE", "loss") | course]


def _images() -> dict[str, Any]:
    return _chart("IMAGE", "images") | {"imageKeys": [SAMPLES], "step": 0, "showRunParams": False}

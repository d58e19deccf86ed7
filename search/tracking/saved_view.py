"""How MLflow's page of runs opens: sorted by val/loss, with what differs between trials, val/loss charted first.

MLflow keeps a page that was shared as a tag of the experiment, and opens it by the tag's name in the address; the tag's
form is that of release 3.17, held by a test in a browser.
"""

import base64
import json
import zlib
from typing import Any

from denoise.config import catalog
from denoise.metrics import SAMPLES_PER_SECOND, VAL_LOSS
from search.tracking.tags import SAMPLES, Tag
from search.tracking.tracker import Tracker

NAME = "trials"
TAG = f"mlflow.sharedViewState.{NAME}"


def columns() -> list[str]:
    """What of a run is a column, by MLflow's names."""
    metrics = [f"metrics.`{name}`" for name in (VAL_LOSS, SAMPLES_PER_SECOND)]
    tags = [f"tags.`{name}`" for name in (Tag.OUTCOME, Tag.DIFFERS)]
    return [*metrics, *(f"params.`{kind}`" for kind in catalog.KINDS), *tags]


def state() -> dict[str, Any]:
    """The page, as MLflow describes one."""
    section = {"uuid": "loss", "name": VAL_LOSS, "display": True, "isReordered": True, "deleted": False}
    chart = {"deleted": False, "isGenerated": False, "metricSectionId": "loss", "runsCountToCompare": 20}
    chart |= {"metricKey": VAL_LOSS}
    course = {"scaleType": "linear", "xAxisKey": "step", "selectedMetricKeys": [VAL_LOSS], "lineSmoothness": 0}
    return {
        "orderByKey": f"metrics.`{VAL_LOSS}`",
        "orderByAsc": True,
        "searchFilter": "",
        "selectedColumns": columns(),
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [section | {"isGenerated": False}],
        "compareRunCharts": [
            {"type": "BAR", "uuid": "bar", **chart},
            {"type": "LINE", "uuid": "line", **chart, **course},
            {"type": "IMAGE", "uuid": "images", **chart, "imageKeys": [SAMPLES], "step": 0, "showRunParams": False},
        ],
    }


def write(tracker: Tracker) -> None:
    """Give the experiment the view, where it has none or another."""
    packed = base64.b64encode(zlib.compress(json.dumps(state()).encode())).decode()
    text = json.dumps({"name": NAME, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})
    if tracker.client.get_experiment(tracker.experiment_id).tags.get(TAG) != text:
        tracker.client.set_experiment_tag(tracker.experiment_id, TAG, text)


def address(server: str, experiment: str) -> str:
    """Where a server shows the view."""
    return f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={NAME}"

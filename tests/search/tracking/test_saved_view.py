"""How MLflow's page of runs opens: the view that is kept with the experiment."""

import base64
import json
import zlib
from pathlib import Path

from denoise import metrics
from denoise.config import catalog
from search.tracking import saved_view
from search.tracking.tracker import Tracker


def test_the_view_is_kept_with_the_experiment_and_written_once(tmp_path: Path) -> None:
    tracker = Tracker(None, "denoise-search", tmp_path)
    saved_view.write(tracker)
    kept = tracker.client.get_experiment(tracker.experiment_id).tags[saved_view.TAG]
    found = json.loads(kept)
    form, _, packed = found["state"].partition(";")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert form == "deflate" and state["orderByKey"] == "metrics.`val/loss`" and state["orderByAsc"]
    assert {"metrics.`val/loss`", "tags.`differs`", "tags.`outcome`"} <= set(state["selectedColumns"])
    assert {f"params.`{kind}`" for kind in catalog.KINDS} <= set(state["selectedColumns"])
    assert {chart["metricKey"] for chart in state["compareRunCharts"]} == {metrics.VAL_LOSS}
    assert not any("attributes" in name for name in state["selectedColumns"]), "no room before val/loss"
    assert [chart["imageKeys"] for chart in state["compareRunCharts"] if chart["type"] == "IMAGE"] == [["samples"]]
    written = []
    tracker.client.set_experiment_tag = lambda *given: written.append(given)
    saved_view.write(tracker)
    assert not written

"""How MLflow's page of runs opens: the views that are kept with the experiment, and the addresses of pages."""

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

from denoise import metrics
from denoise.config import catalog
from search.console import mlflow_pages
from search.tracking import saved_view
from search.tracking.tracker import Tracker


def kept(tracker: Tracker, name: str) -> dict[str, Any]:
    """A view as MLflow reads it from the experiment's tags."""
    text = tracker.client.get_experiment(tracker.experiment_id).tags[saved_view.TAG + name]
    form, _, packed = json.loads(text)["state"].partition(";")
    assert form == "deflate"
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return found


def test_the_views_are_kept_with_the_experiment_and_written_once(tmp_path: Path) -> None:
    tracker = Tracker(None, "denoise-search", tmp_path)
    saved_view.write(tracker)
    state = kept(tracker, mlflow_pages.TRIALS)
    assert state["orderByKey"] == "metrics.`val/loss`" and state["orderByAsc"]
    shown = state["selectedColumns"]
    assert {"metrics.`val/loss`", "tags.`differs`", "tags.`outcome`", "params.`optimizer.lr`"} <= set(shown)
    assert {f"params.`{kind}`" for kind in catalog.KINDS} <= set(shown)
    assert state["columnOrder"][1:] == shown and shown[0] == "metrics.`val/loss`", "in this order"
    assert set(state["columnWidths"]) == set(state["columnOrder"])
    assert {chart["metricKey"] for chart in state["compareRunCharts"]} == {metrics.VAL_LOSS}
    assert [chart["type"] for chart in state["compareRunCharts"]] == ["BAR", "LINE", "IMAGE"]
    assert not any("attributes" in name for name in shown), "no room before val/loss"
    (chart,) = kept(tracker, mlflow_pages.IMAGES)["compareRunCharts"]
    assert chart["type"] == "IMAGE" and chart["imageKeys"] == ["samples"]
    written = []
    tracker.client.set_experiment_tag = lambda *given: written.append(given)
    saved_view.write(tracker)
    assert not written


def test_a_column_is_what_some_search_varies_and_rivals_are_of_one_seed_and_shape(tmp_path: Path) -> None:
    tracker = Tracker(None, "denoise-search", tmp_path)
    for number, kinds in enumerate(("activation", "activation, optimizer")):
        parent = tracker.start(f"search {number}", {"role": "search"}, {"kinds": kinds})
    saved_view.write(tracker)
    state = kept(tracker, mlflow_pages.TRIALS)
    columns = [name for name in state["selectedColumns"] if name.startswith("params")]
    assert columns == ["params.`activation`", "params.`optimizer`", "params.`optimizer.lr`"]
    for role in ("trial", "confirm", "transfer", "train"):
        tracker.start(role, {"role": role}, {}, parent.run_id if role != "train" else None)
    found = tracker.client.search_runs([tracker.experiment_id], state["searchFilter"])
    assert {run.info.run_name for run in found} == {"search 0", "search 1", "trial", "train"}


def test_each_address_names_the_mode_of_trainings(tmp_path: Path) -> None:
    """Without it a new browser opens MLflow's pages of language models."""
    tracker = Tracker(None, "denoise-search", tmp_path)
    assert len(saved_view.addresses("http://h:1", tracker)) == 2, "no search yet"
    parent = tracker.start("search", {"role": "search"}, {}).run_id
    said = "\n".join(saved_view.addresses("http://h:1", tracker))
    found = re.findall(r"http\S+", said)
    assert len(found) == 3 and all(each.startswith("http://h:1/#/experiments/1/runs") for each in found)
    assert all("?workflowType=machine_learning" in each for each in found) and f"/runs/{parent}?" in said
    assert f"viewStateShareKey={mlflow_pages.IMAGES}&compareRunsMode=CHART" in said
    note = tracker.client.get_run(parent).data.tags["mlflow.note.content"]
    assert "Not ended yet" in note and f"]({mlflow_pages.view_page('1', mlflow_pages.TRIALS)})" in note
    child = tracker.start("trial", {"role": "trial", "trial": "0", "differs": "baseline"}, {}, parent).run_id
    note = tracker.client.get_run(child).data.tags["mlflow.note.content"]
    assert f"[search]({mlflow_pages.run_page('1', parent)})" in note

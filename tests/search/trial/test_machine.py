"""How busy the machine is, in a run, where that is asked for."""

from pathlib import Path

import pytest

from search.__main__ import main
from search.tracking.tracker import Tracker
from tests.tiny import TINY

MOST_KEYS = 25  # of metrics, a run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("asked", [True, False])
def test_a_run_has_the_machine_where_it_is_asked_for(
    asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.02")
    words = ["train", f"store={tmp_path}", *TINY, "trainer.max_steps=40", "trainer.val_every=20"]
    assert main([*words, f"tracking.system_metrics={str(asked).lower()}"]) == 0
    (run,) = Tracker(None, "denoise-search", tmp_path).find()
    system = {name for name in run.data.metrics if name.startswith("system/")}
    assert ("system/cpu_utilization_percentage" in system and "system/system_memory_usage_megabytes" in system) == asked
    assert bool(system) == asked and "val/loss" in run.data.metrics and len(run.data.metrics) <= MOST_KEYS

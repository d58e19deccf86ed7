"""The threads that a search gives each of its processes are this machine's: a record has them, a config does not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from denoise.config.compose import compose
from search.__main__ import main
from search.analysis import ranking
from search.study import loop
from search.tracking import record
from search.tracking.tracker import Tracker
from tests import quick

pytestmark = pytest.mark.filterwarnings("ignore")


def searched(store: Path, overrides: list[str]) -> tuple[Tracker, str, record.Record]:
    """Search without training, as one of several processes with three threads each; tracker, search's run, best."""
    prepared = loop.prepare([f"store={store}", *overrides, *quick.NUMBERS, "search.n_trials=1"])
    if prepared.composed.cfg.trainer.num_threads is None:
        prepared = replace(prepared, division=replace(prepared.division, workers=1, threads=3, lag=2))
    study, tracker = loop.open_stores(prepared)
    loop.run(prepared, study, tracker, quick.Silent(), 0.0)  # type: ignore[arg-type]
    parent = tracker.searches()[0].info.run_id
    best = ranking.best(tracker.records(parent))
    assert best is not None
    return tracker, parent, best


@pytest.mark.parametrize("given", [True, False])
def test_threads_are_printed_where_a_person_gave_them(
    given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick.free(monkeypatch)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    overrides = [text for text in quick.SMALL if given or "num_threads" not in text]
    tracker, parent, best = searched(tmp_path / "runs", overrides)
    threads = "trainer.num_threads=1" if given else "trainer.num_threads=3"
    assert threads in best.overrides, "the record has them: make reproduce trains with as many"
    assert json.loads(best.tags["overrides"]) == best.overrides
    artifact = tracker.artifact(parent, "best.yaml", tmp_path).read_text()
    again = tracker.start("again", {"overrides": best.tags["overrides"], "reproduces": best.run_id}, {}).run_id
    for more in ([], ["--run", best.run_id], ["--run", again]):
        assert main(["best", f"store={tmp_path / 'runs'}", *more]) == 0
        out = capsys.readouterr().out
        (command,) = [line for line in out.splitlines() if line.startswith("make train")]
        written = (tmp_path / "runs" / "best.yaml").read_text()
        assert [("num_threads" in text) for text in (command, written, artifact)] == [given] * 3
        assert (f", on this machine with {threads}" in out) == (not given)
        assert compose(best.overrides).cfg.trainer.num_threads == (1 if given else 3)

"""What a search leaves for who knows Optuna: pictures to hover over, a study that Optuna loads, a table."""

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from denoise.fault import Outside
from denoise.metrics import PARAMETERS
from search.__main__ import main
from search.console import redact
from search.report.forms import optuna_files
from search.report.forms.optuna_files import JOURNAL, OF_A_PROCESS, TABLE
from search.report.report import INTERACTIVE
from search.tracking.record import Record
from search.tracking.tracker import Run, Tracker
from tests import quick, studies

pytestmark = pytest.mark.filterwarnings("ignore")
ASKED = [*quick.CHOICES, "search.n_trials=6", "pruner=none"]


def too_large(run: Run, files: Mapping[str, bytes], folder: str | None = None, artifacts: Any = Run.artifacts) -> None:
    """A proxy that takes no large files."""
    if sum(map(len, files.values())) > 1_000_000:
        raise Outside("answers 413")
    artifacts(run, files, folder)


def test_a_search_ends_without_plotly_and_with_it_has_all_that_optuna_users_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "plotly.io", None)
        trials, display = quick.run(tmp_path, ASKED, monkeypatch, pictures=True)
    tracker = Tracker(None, "denoise-search", tmp_path)
    (parent,) = tracker.searches()
    run_id = parent.info.run_id
    (note,) = [note for note in display.notes if INTERACTIVE in note]
    assert note.startswith(f"{INTERACTIVE} is not written: ") and "\n" not in note and "plotly" in note
    assert parent.data.tags["outcome"] == "complete" and not tracker.has(run_id, INTERACTIVE)
    assert INTERACTIVE not in parent.data.tags["mlflow.note.content"]
    assert main(["report", f"store={tmp_path}"]) == 0 and "pictures to hover over" not in capsys.readouterr().out

    with monkeypatch.context() as patch:
        patch.setattr(Run, "artifacts", too_large)
        _, display = quick.run(tmp_path, ASKED, monkeypatch, pictures=True)
    assert [note for note in display.notes if INTERACTIVE in note] == [f"{INTERACTIVE} is not kept: answers 413"]
    assert tracker.run_of(run_id).data.tags["outcome"] == "complete" and tracker.has(run_id, TABLE)

    again, display = quick.run(tmp_path, ASKED, monkeypatch, pictures=True)
    assert again == trials and not [note for note in display.notes if "not written" in note]
    assert (
        f"/artifacts/{INTERACTIVE}?workflowType=machine_learning)"
        in tracker.run_of(run_id).data.tags["mlflow.note.content"]
    )
    assert main(["report", f"store={tmp_path}"]) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pictures to hover over: ")]
    content = Path(said.partition(": ")[2]).read_text()
    assert "Plotly.newPlot" in content and "<h2>Slices</h2>" in content and "Left out" in content

    path = tracker.artifact(run_id, JOURNAL, tmp_path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    loaded = optuna.load_study(study_name=parent.data.tags["study"], storage=storage)
    assert quick.content(loaded) == trials
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    attributes = {name for line in lines for name in line.get("user_attrs", {})}
    assert {"overrides", "config_sha256"} <= attributes and not attributes & {*OF_A_PROCESS}
    table = pandas.read_csv(io.BytesIO(tracker.artifact(run_id, TABLE, tmp_path).read_bytes()))
    assert list(table["number"]) == list(range(6)) and set(table["state"]) == {"COMPLETE"}
    assert list(table["value"]) == pytest.approx([trial.value for trial in loaded.trials])


def test_a_search_that_weighs_a_cost_has_them_too() -> None:
    study, notes = studies.new("front", objectives=2), list[str]()
    domains = {"activation": CategoricalDistribution(["silu", "relu"])}
    for k in range(6):
        number = studies.begin(study, {"activation": "silu" if k % 2 else "relu"}, domains)
        study.report(number, 10, 0.5 - 0.01 * k)
        study.end(number, TrialState.COMPLETE, [0.5 - 0.01 * k, 1e6 * (1 + k % 3)])
    records = [Record(k, f"{k:032x}", "complete", 10, [], 0.5 - 0.01 * k, metrics={PARAMETERS: 1e6}) for k in range(6)]
    made = optuna_files.files(study, records, [], PARAMETERS, None, notes.append)
    assert not notes and list(made) == [INTERACTIVE, JOURNAL, TABLE]
    page = made[INTERACTIVE].decode()
    assert "<h2>Cost against quality</h2>" in page and "Importance: it is measured for one objective." in page
    table = pandas.read_csv(io.BytesIO(made[TABLE]))
    assert list(table["values_1"]) == [1e6 * (1 + k % 3) for k in range(6)]
    assert made[JOURNAL].decode().count('"values":[0.') == 6


@pytest.mark.parametrize("name", [JOURNAL, TABLE])
def test_what_is_taken_along_has_no_password(name: str) -> None:
    assert b"PW" not in redact.hidden(name, b'{"overrides":["tracking.uri=http://u:PW@host"]}\n')

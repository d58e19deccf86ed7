"""The code that trains is part of what a result is: other code's are not taken for one's own, and it is said."""

from pathlib import Path

import pytest

from denoise import catalog
from search import machine
from search.__main__ import main
from search.tracking import Tracker
from tests.test_question import latest, searched

pytestmark = pytest.mark.filterwarnings("ignore")


def changed(monkeypatch: pytest.MonkeyPatch, code: str = "0123456789ab") -> None:
    """Go on with another version of the project."""
    monkeypatch.setattr(machine, "code", lambda: code)


def test_the_code_is_named_by_the_content_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "part" / "one.py").write_text("a = 1\n")
    monkeypatch.setattr(catalog, "__file__", str(tmp_path / "__init__.py"))
    names = []
    for change in (
        lambda: None,
        lambda: (tmp_path / "part" / "one.py").write_text("a = 2\n"),
        lambda: (tmp_path / "part" / "one.py").rename(tmp_path / "part" / "two.py"),
        lambda: (tmp_path / "notes.txt").write_text("no code"),
    ):
        change()
        names.append(machine.code.__wrapped__())
    assert len(set(names[:3])) == 3 and names[3] == names[2]
    assert all(len(name) == 12 and int(name, 16) >= 0 for name in names)


def test_a_result_of_other_code_is_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "runs"
    searched(store, "search.n_trials=2", "pruner=none")
    changed(monkeypatch)
    searched(store, "search.n_trials=2", "pruner=none", "search.name=other")
    again = latest(store)
    assert not [record for record in again.records if "duplicate_of" in record.tags]
    assert {record.tags["code"] for record in again.records} == {"0123456789ab"}


def test_a_search_that_goes_on_with_other_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "runs"
    kinds = ["search.enqueue=[]", "pruner=none", "search.n_trials=1"]
    searched(store, "search.kinds.activation=[silu,relu]", *kinds)
    before = latest(store)
    capsys.readouterr()
    searched(store, "search.kinds.activation=[silu,relu]", *kinds)
    assert "code" not in capsys.readouterr().out
    changed(monkeypatch)
    searched(store, "search.kinds.activation=[silu,relu]", *kinds)
    assert "the project's code has changed since this search began" in capsys.readouterr().out
    searched(store, "search.kinds.activation=[silu,relu,gelu]", *kinds)
    said = " ".join(capsys.readouterr().out.split())
    assert "carried over; they were trained with other code of the project" in said
    carried = latest(store).by_number()[0]
    assert carried.tags["code"] == before.by_number()[0].tags["code"] != "0123456789ab"


def test_reproduce_says_whether_the_code_is_that_of_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "runs"
    searched(store, "search.n_trials=1", "pruner=none")
    tracker = Tracker(None, "denoise-search", store)
    run = latest(store).records[0].run_id
    changed(monkeypatch)
    assert main(["reproduce", f"store={store}", "--run", run]) == 0, "other code, the same bits"
    tracker.client.set_tag(run, "weights_sha256", "0" * 64)
    capsys.readouterr()
    assert main(["reproduce", f"store={store}", "--run", run]) == 1
    assert "the project's code is not that of then" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["reproduce", f"store={store}", "--run", run]) == 1
    assert "with the same code: this is a bug" in capsys.readouterr().err

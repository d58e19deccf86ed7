"""The code that trains is part of what a result is: other code's are not taken for one's own, and it is said."""

from pathlib import Path

import pytest

import denoise
from denoise.training import train
from search.__main__ import main
from search.tracking.tracker import Tracker
from search.trial import provenance
from search.trial.run import MetricsForwarder
from tests.quick import a_new_process
from tests.search.study.test_questions import NO_CONFIRM, TINY, latest, searched

pytestmark = pytest.mark.filterwarnings("ignore")


def changed(monkeypatch: pytest.MonkeyPatch, code: str = "0123456789ab") -> None:
    """Go on with another version of the project."""
    monkeypatch.setattr(provenance, "code", lambda: code)


def test_the_code_is_named_by_the_content_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "part" / "one.py").write_text("a = 1\n")
    monkeypatch.setattr(denoise, "__file__", str(tmp_path / "__init__.py"))
    names = []
    for change in (
        lambda: None,
        lambda: (tmp_path / "part" / "one.py").write_text("a = 2\n"),
        lambda: (tmp_path / "part" / "one.py").rename(tmp_path / "part" / "two.py"),
        lambda: (tmp_path / "notes.txt").write_text("no code"),
    ):
        change()
        names.append(provenance.code.__wrapped__())
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
    assert "the code in src/denoise has changed since this search began" in capsys.readouterr().out
    searched(store, "search.kinds.activation=[silu,relu,gelu]", *kinds)
    said = " ".join(capsys.readouterr().out.split())
    assert "migrated; they were trained with other code of src/denoise" in said
    migrated = latest(store).by_number()[0]
    assert migrated.tags["code"] == before.by_number()[0].tags["code"] != "0123456789ab"


@pytest.mark.parametrize("same", [True, False], ids=["same code", "other code"])
@pytest.mark.faults
def test_a_training_that_was_interrupted_goes_on_with_its_own_code_only(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "runs"
    command = ["search", f"store={store}", *TINY, NO_CONFIRM, "search.n_trials=1", "pruner=none"]
    command += ["trainer.max_steps=6", "trainer.val_every=2", "trainer.save_seconds=0"]

    def interrupt(self: MetricsForwarder, step: int) -> None:
        if step >= 4:
            raise KeyboardInterrupt

    a_new_process(monkeypatch, 1)
    with monkeypatch.context() as patch:
        patch.setattr(MetricsForwarder, "on_save", interrupt)
        assert main(command) == 130
    (before,) = (store / "checkpoints").rglob("0.ckpt")
    tracker = Tracker(None, "denoise-search", store)
    (run,) = tracker.find(trial="0")
    a_new_process(monkeypatch, 2)
    if not same:
        changed(monkeypatch)
    began: list[bool] = []
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda *given: (began.append(not before.exists()), fit(*given))[1])
    assert main(command) == 0
    (after,) = latest(store).records
    assert began == [not same]
    assert (after.run_id == run.info.run_id) is same and after.step == 6
    assert after.tags["code"] == provenance.code()


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
    assert "the code in src/denoise is not that of then" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["reproduce", f"store={store}", "--run", run]) == 1
    assert "this is a bug, or a library has changed" in capsys.readouterr().err

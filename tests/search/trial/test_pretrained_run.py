"""Starting from an earlier MLflow run or file, as a person types it: what is said, kept, and done again."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from denoise.training.train import sha256
from search.__main__ import main
from search.tracking.tracker import Tracker
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = [*tiny.TINY, "data.batch_size=8", "trainer.max_steps=4", "trainer.val_every=2"]


@dataclass
class Trained:
    """A store with one training in it."""

    store: Path
    run: str

    @property
    def tracker(self) -> Tracker:
        return Tracker(None, "denoise-search", self.store)

    def runs(self) -> list:
        return self.tracker.client.search_runs([self.tracker.experiment_id])

    def newest(self):
        return self.runs()[0]

    def text(self, run_id: str, into: Path) -> str:
        return self.tracker.artifact(run_id, "initializer.txt", into).read_text()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    store = tmp_path_factory.mktemp("transfer") / "runs"
    assert main(["train", f"store={store}", *TINY]) == 0
    tracker = Tracker(None, "denoise-search", store)
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    return Trained(store, run.info.run_id)


def from_run(run: str) -> list[str]:
    return ["initializer=pretrained", f"initializer.run={run}"]


def test_train_from_a_run_says_what_it_took_and_is_reproduced(earlier: Trained, tmp_path: Path, capsys) -> None:
    overrides = [*TINY, *from_run(earlier.run), "model.class_conditional=true"]
    assert main(["train", f"store={earlier.store}", *overrides]) == 0
    out = capsys.readouterr().out
    assert "tensors taken, 1 not" in out and "backbone.embedding.label.weight: not in the file" in out
    run = earlier.newest()
    text = earlier.text(run.info.run_id, tmp_path)
    assert "backbone.conv_in.weight\n" in text and "backbone.embedding.label.weight: not in the file" in text
    assert f"initializer.run={earlier.run}" in run.data.tags["overrides"] and ".safetensors" not in run.data.tags
    assert len(run.data.tags["initializer_sha256"]) == 64

    fetched = earlier.store / "pretrained" / f"{earlier.run}.safetensors"
    recorded = earlier.tracker.record(earlier.run).tags["weights_sha256"]
    assert sha256(load_file(fetched)) == recorded
    fetched.unlink()  # the tracker alone is enough
    assert main(["reproduce", f"store={earlier.store}", "--run", run.info.run_id]) == 0
    out = capsys.readouterr().out
    assert "bit for bit" in out and "initializer_sha256" in out


def test_the_first_evaluation_goes_on_where_the_run_ended(earlier: Trained) -> None:
    """With a learning rate of nothing the new training has the loss of the old one's weights."""
    still = ["optimizer=sgd", "optimizer.space.lr.low=0", "optimizer.lr=0", "trainer.max_steps=2"]
    assert main(["train", f"store={earlier.store}", *TINY, *from_run(earlier.run), *still]) == 0
    old, new = earlier.tracker.record(earlier.run), earlier.tracker.record(earlier.newest().info.run_id)
    assert new.value == pytest.approx(old.value, rel=1e-6)
    assert new.tags["weights_sha256"] == old.tags["weights_sha256"]


def test_many_names_are_shortened_on_the_screen_and_whole_in_the_record(earlier: Trained, tmp_path, capsys) -> None:
    overrides = [*TINY, *from_run(earlier.run), "model.width=12"]
    assert main(["train", f"store={earlier.store}", *overrides]) == 0
    out = capsys.readouterr().out
    assert "more: the run's artifact initializer.txt lists them all" in out
    text = earlier.text(earlier.newest().info.run_id, tmp_path)
    assert text.count("in the file, (") > 12


def test_a_file_that_has_changed_is_seen_by_reproduce(earlier: Trained, tmp_path: Path, capsys) -> None:
    weights = load_file(earlier.tracker.artifact(earlier.run, "weights/weights.safetensors", tmp_path))
    path = tmp_path / "mine.safetensors"
    save_file(weights, path)
    given = ["initializer=pretrained", f"initializer.path={path}"]
    assert main(["train", f"store={earlier.store}", *TINY, *given]) == 0
    run = earlier.newest().info.run_id
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, path)
    capsys.readouterr()
    assert main(["reproduce", f"store={earlier.store}", "--run", run]) == 1
    assert "initializer_sha256" in capsys.readouterr().out
    path.unlink()
    assert main(["reproduce", f"store={earlier.store}", "--run", run]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_search_starts_its_trials_from_a_run(earlier: Trained, tmp_path: Path) -> None:
    """As the baseline, beside another initializer."""
    kinds = [f"~search.kinds.{kind}" for kind in ("activation", "normalization", "weight_normalization")]
    kinds += [f"~search.kinds.{kind}" for kind in ("feed_forward", "optimizer", "lr_schedule")]
    some = ["search.n_trials=3", "search.kinds.initializer=[pretrained,torch_default]", "search.enqueue=[]"]
    assert main(["search", f"store={earlier.store}", *TINY, *from_run(earlier.run), *kinds, *some]) == 0
    (parent, *_) = earlier.tracker.searches()
    records = sorted(earlier.tracker.records(parent.info.run_id), key=lambda record: record.number or 0)
    assert [record.outcome for record in records[:1]] == ["complete"]
    assert f"initializer.run={earlier.run}" in records[0].overrides
    assert all(record.outcome != "failed" for record in records)
    assert "tensors taken, 0 not" in earlier.text(records[0].run_id, tmp_path)


def test_a_run_that_cannot_be_taken_is_refused_in_one_line(earlier: Trained, tmp_path: Path, capsys) -> None:
    def refused(*overrides: str, store: Path = earlier.store, verb: str = "train") -> str:
        capsys.readouterr()
        assert main([verb, f"store={store}", *TINY, "initializer=pretrained", *overrides]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        return err

    count = len(earlier.runs())
    assert "no such run" in refused("initializer.run=abc") and "make ui" in refused("initializer.run=abc")
    assert "not the id of a run" in refused("initializer.run='../x'")
    assert "initializer.path=null" in refused() and "initializer.path=null" in refused(verb="search")
    assert "give one of them" in refused("initializer.path=a.pt", f"initializer.run={earlier.run}")
    elsewhere = tmp_path / "new"
    assert "there are no runs" in refused(f"initializer.run={earlier.run}", store=elsewhere)
    assert not elsewhere.exists() and len(earlier.runs()) == count, "a refusal leaves nothing behind"


def test_a_run_without_weights_or_with_others_is_refused(earlier: Trained, tmp_path: Path, capsys) -> None:
    store = tmp_path / "runs"
    assert main(["train", f"store={store}", *TINY]) == 0
    own = Trained(store, "")
    own.run = own.newest().info.run_id
    artifact = next((store / "artifacts").rglob("weights.safetensors"))
    save_file({name: tensor + 1 for name, tensor in load_file(artifact).items()}, artifact)
    capsys.readouterr()
    assert main(["train", f"store={store}", *TINY, *from_run(own.run)]) == 2
    assert "not those that it recorded" in capsys.readouterr().err
    assert not list((store / "pretrained").iterdir())
    artifact.unlink()
    assert main(["train", f"store={store}", *TINY, *from_run(own.run)]) == 2
    assert "kept no weights" in capsys.readouterr().err

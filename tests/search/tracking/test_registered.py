"""The registered model of a question: what has a name of its own, and whom a champion gives way to."""

from pathlib import Path
from typing import Any

import pytest

from denoise.config.compose import compose
from search.console import mlflow_pages
from search.searches import removal
from search.tracking import description
from search.tracking.record import Record
from search.tracking.registered import Candidate, better, champion, crown, name
from search.tracking.tracker import Tracker

pytestmark = pytest.mark.filterwarnings("ignore")
A, B = "a" * 32, "b" * 32


def candidate(test: float | None, val: float, search: str = A, run: str = "r") -> Candidate:
    """A search's answer: confirmed where it has a test loss."""
    worth = {"val/loss": val} | ({"test/loss": test} if test is not None else {})
    record = Record(None, run, "complete", 8, [], tags={"weights_sha256": "0" * 64})
    return Candidate(record, search, worth, f"worth {val}", {1000: run, 1001: run} if test is not None else {})


@pytest.mark.parametrize(
    ("new", "old", "replaces"),
    [
        ((0.5, 0.6), (0.4, 0.5, A), True),  # the same search: what it says today
        ((0.3, 0.9), (0.4, 0.5, B), True),  # judged on fresh seeds, both
        ((0.5, 0.1), (0.4, 0.5, B), False),
        ((0.4, 0.5), (0.4, 0.5, B), False),  # the same again
        ((None, 0.1), (0.4, 0.5, B), False),  # the best of many on one seed
        ((None, 0.4), (None, 0.5, B), True),
        ((0.9, 0.4), (None, 0.5, B), True),
        ((0.1, 0.6), (None, 0.5, B), False),
        ((float("nan"), 0.1), (0.4, 0.5, B), False),
    ],
)
def test_a_champion_gives_way_to_what_is_better_on_the_same_question(
    new: tuple[float | None, float], old: tuple[float | None, float, str], replaces: bool
) -> None:
    assert better(candidate(*new), candidate(*old).tags) == replaces


def test_only_what_is_absent_is_taken_for_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    tracker = Tracker(None, "denoise-search", tmp_path)
    assert champion(tracker, "no-such-model") == ""
    tracker.client.create_registered_model("of-none")
    assert champion(tracker, "of-none") == ""

    def denied(*given: Any) -> Any:
        raise MlflowException("not for you", PERMISSION_DENIED)

    for call in ("get_model_version_by_alias", "delete_run"):
        monkeypatch.setattr(tracker.client, call, denied)
    with pytest.raises(MlflowException, match="not for you"):
        champion(tracker, "of-none")
    with pytest.raises(MlflowException, match="not for you"):
        removal.remove(tracker, ["0" * 32])


def test_tags_that_are_no_numbers_keep_no_champion() -> None:
    assert better(candidate(0.5, 0.5), {"search": B, "confirmed": "3", "test/loss": "best"})


def test_a_question_is_data_backbone_and_ruler() -> None:
    plain = compose([])
    own = name(plain, "0" * 64, 1024)
    assert own.startswith("denoise-digits-unet-")
    for same in (
        "seed=5",
        "activation=relu",
        "optimizer=lion",
        "model.width=8",
        "trainer.max_steps=7",
        "denoiser=flow",
    ):
        assert name(compose([same]), "0" * 64, 1024) == own, same
    others = [
        name(compose([text]), "0" * 64, 1024) for text in ("model=dit", "ruler.P_mean=0.5", "trainer.val_samples=8")
    ]
    others += [name(plain, "1" * 64, 1024), name(plain, "0" * 64, 16)]
    assert len({own, *others}) == 6


def made(tracker: Tracker, value: float) -> Any:
    run = tracker.start(f"with [a] name {value}", {"role": "trial"}, {})
    run.artifacts({"weights.safetensors": b"numbers"}, "weights")
    return run


def test_what_is_registered_says_what_it_is_worth_and_stays_until_there_is_better(tmp_path: Path) -> None:
    tracker, composed = Tracker(None, "e", tmp_path), compose([])
    client, model = tracker.client, name(composed, "0" * 64, 1024)
    searches = [made(tracker, k).run_id for k in (1, 2, 3)]

    def now(test: float | None, val: float, search: str) -> tuple[str, Any, str]:
        run = made(tracker, val).run_id
        said = crown(tracker, model, candidate(test, val, search, run), composed)
        return said, client.get_model_version_by_alias(model, "champion"), run

    said, version, first = now(0.4, 0.5, searches[0])
    assert said == "" and (version.run_id, version.version) == (first, 1)
    assert version.source.endswith(f"{first}/artifacts/weights") and version.tags["test/loss"] == "0.4"
    assert tracker.has(first, "weights/MLmodel") and tracker.has(first, "weights/denoiser.json")
    assert (
        "| test/loss&emsp; | 0.4 |" in version.description
        and f'denoise.load("models:/{model}@champion")' in version.description
    )
    assert f"[with \\[a\\] name 1]({mlflow_pages.run_page('1', searches[0])})" in version.description
    assert (
        "[seed 1001](#/experiments/" in version.description
        and "digits" in client.get_registered_model(model).description
    )
    said, version, _ = now(0.45, 0.1, searches[1])
    assert version.run_id == first
    assert said == f"models:/{model}@champion stays version 1, run {first}: test/loss 0.4 there, 0.45 here"
    said, version, _ = now(None, 0.1, searches[1])
    assert version.run_id == first and said.endswith("here it is not confirmed on fresh seeds")
    again = candidate(0.41, 0.5, searches[0], first)
    assert crown(tracker, model, again, composed) == "" and len(client.search_model_versions(f"name='{model}'")) == 1
    assert client.get_model_version(model, "1").tags["test/loss"] == "0.41", "what is known of it now"
    said, version, second = now(0.3, 0.5, searches[1])
    assert said == "" and (version.run_id, version.version) == (second, 2)
    client.delete_run(second)
    said, version, third = now(None, 0.9, searches[2])
    assert said == "" and version.run_id == third, "a champion that was deleted is none"


@pytest.mark.parametrize("text", ["a`b", "``", "<img src=x>", "**no**\n# no", "x" * 9000])
def test_a_text_in_a_description_is_letters_on_one_line(text: str) -> None:
    found = description.code(text)
    fence = "``" if "`" in text else "`"
    assert found.startswith(fence) and found.endswith(fence) and "\n" not in found and len(found) < 5000
    assert fence not in found[len(fence) : -len(fence)]

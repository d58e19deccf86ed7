"""Sample quality of a confirmation: which weights are measured, what is kept, what a record may not do."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

from denoise.config.compose import compose
from denoise.data import images
from denoise.errors import UserError
from denoise.evaluation import sample_quality as measuring
from denoise.evaluation.ensemble import Member
from denoise.evaluation.sample_quality import SampleQuality
from denoise.metrics import QUALITY
from denoise.quality import classifier
from denoise.training.build import build_denoiser
from search.analysis.confirmation import Arm, Confirmation, Finalist, Settings
from search.cli import standby
from search.confirmation.sample_quality import measured, stored
from search.confirmation.trainings import Trainings, order
from search.quality.found import ArmQuality, QualityFound
from search.quality.section import sentences
from search.space import search_config
from search.study import finish
from search.study.spec import prepare
from search.tracking import weights
from search.tracking.tags import Tag
from search.tracking.tracker import Run, Tracker
from tests import quick, tiny

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = [*tiny.TINY, "trainer.max_steps=4"]
ASKED = ["quality=classifier", "quality.images=32", "quality.resamples=20", "quality.seeds=2"]
SEEDS = (1000, 1001, 1002)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "STEPS", 3)


def weights_of(overrides: list[str]) -> bytes:
    """Those of a network at its start, its zeros made small numbers so that it draws something of its own."""
    cfg = compose(overrides).cfg
    drawn = build_denoiser(cfg, images.load(cfg.data)).state_dict()
    return save({name: (tensor + 0.02 * torch.randn_like(tensor)).contiguous() for name, tensor in drawn.items()})


def confirmed(store: Path) -> tuple[Trainings, Confirmation]:
    """A search's run, and two arms on three seeds whose weights wait."""
    tracker = Tracker(None, "denoise-search", store)
    trainings = Trainings(tracker, tracker.start("searched", {"role": "search", "study": "searched"}, {}))
    arms = [Arm("a", 0, "baseline", [*TINY], 0.5), Finalist("b", 1, "activation=gelu", [*TINY, "activation=gelu"], 0.4)]
    found = Confirmation(Settings(1, 3, SEEDS[0], 0.95, 32), arms[0], [arms[1]])  # type: ignore[list-item]
    trainings.folder.mkdir(parents=True)
    for arm in arms:
        for seed in SEEDS:
            one = order(arm, seed, 32)
            content = weights_of(list(one.overrides))
            tags: dict[str, str] = {Tag.ROLE: "confirm", Tag.OVERRIDES: json.dumps(one.overrides), Tag.STEP: "4"}
            tags |= {Tag.WEIGHTS_SHA256: weights.digest(content), Tag.CONFIG_SHA256: one.digest}
            arm.runs[seed] = tracker.start(f"{arm.run_id}{seed}", tags, {}).run_id
            arm.values[seed] = 0.5 if arm.run_id == "a" else 0.4 + seed / 1e5
            trainings.weights(one.digest).write_bytes(content)
    return trainings, found


def test_all_draw_from_one_noise_and_what_was_measured_stays(tmp_path: Path) -> None:
    trainings, found = confirmed(tmp_path)
    cfg, screen = compose([*TINY, *ASKED], "search").cfg, quick.Silent()
    made = measured(cfg, trainings, found, screen)  # type: ignore[arg-type]
    assert made is not None and made == stored(trainings.tracker, trainings.parent.run_id)
    assert [list(arm.runs) for arm in made.arms] == [[1000, 1001]] * 2 and made.count == 32
    base, other = made.arms
    assert {*base.figures} == {*QUALITY} == {*other.beside} and not base.beside
    for name in QUALITY:
        assert base.figures[name].value == pytest.approx(sum(each[name] for each in base.each.values()) / 2)
        assert other.beside[name].value == pytest.approx(other.figures[name].value - base.figures[name].value)
    record = trainings.tracker.record(other.runs[1001])
    assert {name: record.metrics[name] for name in QUALITY} == other.each[1001]
    assert screen.notes == ["measuring sample quality: 32 images of each of 4 trainings"]
    for arm in found.arms:  # as a search ends: one training's weights stay, with its run
        waiting = trainings.weights(order(arm, 1002, 32).digest)
        Run(trainings.tracker, arm.runs[1002]).artifacts({weights.NAME: waiting.read_bytes()}, "weights")
    trainings.clear()
    assert measured(cfg, trainings, found, screen) == made and len(screen.notes) == 1  # type: ignore[arg-type]
    none = compose([*TINY], "search").cfg
    assert measured(none, trainings, found, screen) == made  # type: ignore[arg-type]
    more = compose([*TINY, *ASKED, "quality.images=20"], "search").cfg
    again = measured(more, trainings, found, screen)  # type: ignore[arg-type]
    assert again is not None and [list(arm.runs) for arm in again.arms] == [[1002]] * 2 and again.count == 20
    alone = Trainings(trainings.tracker, trainings.tracker.start("other", {"role": "search"}, {}))
    assert measured(none, alone, found, screen) is None  # type: ignore[arg-type]


def test_what_cannot_be_measured_is_said_and_the_search_ends_all_the_same(tmp_path: Path) -> None:
    trainings, found = confirmed(tmp_path)
    cfg, screen = compose([*TINY, *ASKED, "quality.seeds=1"], "search").cfg, quick.Silent()
    broken = order(found.finalists[0], 1000, 32)
    content = save({name: t * float("nan") for name, t in measuring_weights(broken.overrides).items()})
    trainings.weights(broken.digest).write_bytes(content)
    run = Run(trainings.tracker, found.finalists[0].runs[1000])
    run.flush({Tag.WEIGHTS_SHA256: weights.digest(content)})
    made = measured(cfg, trainings, found, screen)  # type: ignore[arg-type]
    assert made is not None and not made.arms[1].figures
    assert sentences(made)[0].endswith("no sample quality, the images of seed 1000 are not finite numbers.")
    trainings.clear()
    gone = compose([*TINY, *ASKED, "quality.images=20"], "search").cfg
    assert measured(gone, trainings, found, screen) == made  # type: ignore[arg-type]
    assert "not measured: the weights are gone" in screen.notes[-1]
    torn = compose([*TINY, "quality=file", f"quality.path={tmp_path / 'gone.pt'}"], "search").cfg
    assert measured(torn, trainings, found, screen) == made  # type: ignore[arg-type]
    assert "gone.pt: cannot be read" in screen.notes[-1] and "\n" not in screen.notes[-1]


def measuring_weights(overrides: Any) -> dict[str, torch.Tensor]:
    cfg = compose(list(overrides)).cfg
    return {name: t.float().contiguous() for name, t in build_denoiser(cfg, images.load(cfg.data)).state_dict().items()}


def test_the_images_of_a_member_are_the_same_twice_and_classes_are_those_of_the_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*TINY, "model.class_conditional=true"]
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights_of(overrides))
    cfg = compose([*overrides, *ASKED], "search").cfg
    one, again = (SampleQuality(cfg, tmp_path) for _ in range(2))
    member = Member(compose(overrides).cfg, path)
    torch.manual_seed(3)
    drawn = one.draw(member)
    assert torch.equal(drawn, again.draw(member)) and drawn.shape == (32, 1, 8, 8)
    told: list[torch.Tensor] = []
    solve = measuring.solve
    monkeypatch.setattr(measuring, "BATCH", 20)
    monkeypatch.setattr(measuring, "solve", lambda *given: told.append(given[4]) or solve(*given))
    torch.testing.assert_close(again.draw(member), drawn, rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.cat(told), one.labels) and len(told) == 2
    assert one.of(member) is not None and {*one.of_training_images()} == {*QUALITY}


SMALL = [*quick.SMALL[:-1], *quick.NUMBERS, *TINY[:3]]


def test_a_search_has_the_same_name_and_the_same_trials_whatever_is_measured(tmp_path: Path) -> None:
    given = [f"store={tmp_path}", *SMALL, "search.n_trials=2"]
    plain, asked = prepare(given), prepare([*given, *ASKED])
    assert (plain.name, plain.family, plain.baseline) == (asked.name, asked.family, asked.baseline)
    assert plain.space == asked.space and asked.composed.choices["quality"] == "classifier"


def test_a_search_measures_before_the_weights_are_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    made = QualityFound({}, [], "means", None, 32, 0.95, {}, [ArmQuality("a", 0, "baseline", failure="it is gone")])

    def measures(cfg: Any, *given: Any) -> QualityFound:
        seen.append(cfg.quality["_target_"])
        return made

    monkeypatch.setattr(finish.sample_quality, "measured", measures)
    monkeypatch.setattr(Trainings, "clear", lambda self: seen.append("cleared"))
    quick.run(tmp_path, [*quick.NUMBERS, *ASKED, "search.n_trials=2"], monkeypatch)
    assert seen == ["denoise.quality.features.classifier", "cleared"]
    (page,) = tmp_path.rglob("report.html")
    assert "The baseline: no sample quality, it is gone." in page.read_text()


def test_what_cannot_be_measured_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"store={tmp_path}", *SMALL, "search.n_trials=2"]
    with pytest.raises(UserError, match=r"quality.path=.*cannot be read"):
        prepare([*given, "quality=file", f"quality.path={tmp_path / 'none.pt'}"])
    with pytest.raises(UserError, match="nothing takes quality"):
        compose(["quality=classifier"])
    noted = prepare([*given, *ASKED, "search.confirm.finalists=0"]).notes
    assert "note: quality is measured in the confirmation, which search.confirm.finalists=0 leaves out" in noted
    data = images.load(compose([]).cfg.data)
    unlabelled = replace(data, labels={split: labels * 0 for split, labels in data.labels.items()})
    monkeypatch.setattr(measuring.images, "load", lambda cfg: unlabelled)
    with pytest.raises(UserError, match="quality=classifier: the data have no classes"):
        measuring.check(compose(ASKED, "search").cfg)


def test_a_file_of_code_is_not_taken_from_a_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where it is hidden among the overrides that a search brings."""
    begun: list[list[str]] = []

    def begins(words: list[str]) -> Any:
        begun.append(words[4:])
        return SimpleNamespace(poll=lambda: 0)

    monkeypatch.setattr(standby.subprocess, "Popen", begins)
    worker, path = standby.StandbyWorker("sqlite://"), "quality.path=evil.pt"
    worker.join("first", ["activation=relu", "quality=file", path, "++quality.images=20"])
    worker.join("second", [f'search.overrides=["quality=file","{path}"]'])
    worker.join("third", ['search.overrides=["quality=file"]'])
    assert begun[0] == ["activation=relu", "search.storage=sqlite://", "search.shared=false", "quality=none"]
    with pytest.raises(UserError, match=r"quality\.path"):
        search_config.read([text for text in begun[1] if "storage" not in text])
    third, _ = search_config.read([text for text in begun[2] if "storage" not in text])
    assert third.choices["quality"] == "none" and not measuring.asked(third.cfg)

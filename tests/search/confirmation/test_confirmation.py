"""Confirmations on real storage with tiny trainings: what is trained, what a kill costs, what is said of it."""

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save

from denoise.errors import UserError
from denoise.training.train import sha256
from search.analysis import ranking, sequential_test
from search.analysis.confirmation import Arm, Confirmation, EnsembleScore, Finalist, Settings, comparison
from search.analysis.confirmation import settings as read
from search.analysis.sequential_test import (
    BETTER,
    OPEN,
    WORSE,
    SequentialTest,
    differences,
    images_error,
    mean_interval,
)
from search.confirmation import run as confirming
from search.confirmation import tested, trainings
from search.confirmation.finalists import Tuned, start
from search.confirmation.run import confirm
from search.confirmation.stored import from_json, load, missing, stored, to_json
from search.confirmation.trainings import Trainings, order
from search.report.confirmation import sentences, tables, take
from search.report.plots.confirmation import comparisons, picture, window
from search.tracking.record import Record
from search.tracking.tracker import Run, Tracker
from search.trial.run import TESTED, TrialResult
from tests import tiny
from tests.pictures import parsed, texts

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = [*tiny.TINY, "data.batch_size=8", "trainer.max_steps=4", "trainer.val_every=4"]
BASELINE = [*TINY, "activation=silu"]
GOOD, BAD = [*TINY, "activation=gelu"], [*TINY, "activation=sigmoid"]
SETTINGS = Settings(2, 3, 1000, 0.95, 32)


@dataclass
class Screen:
    """Notes what was trained, and what was said."""

    trained: list[tuple[int | None, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def trial_starts(self, trial: int | None, difference: str) -> None:
        self.trained.append((trial, difference))

    def progress(self, step: int, max_steps: int, metrics: dict[str, float]) -> None: ...

    def trial_ends(
        self, outcome: str, step: int, value: float | None, rate: float | None, failure: str = ""
    ) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def phase(self, title: str, total: int) -> None: ...


def trial(number: int, overrides: list[str], value: float | None, outcome: str = "complete") -> Record:
    return Record(number, f"run-{number}", outcome, 4, overrides, value)


RECORDS = ranking.rank(
    [
        trial(0, BASELINE, 0.5),
        trial(1, BAD, 0.48),
        trial(2, GOOD, 0.4),
        trial(3, GOOD, 0.4),
        trial(4, [*TINY, "activation=relu"], 0.1, "pruned"),
        trial(5, [*TINY, "activation=elu"], 0.6),
    ]
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all searches here: making one takes longer than a search."""
    return tmp_path_factory.mktemp("confirm") / "runs"


def opened(store: Path, name: str) -> tuple[Tracker, Run]:
    """A search's run, as a new process finds it."""
    tracker = Tracker(None, "denoise-search", store)
    found = tracker.find(role="search", study=name)
    if found:
        return tracker, tracker.run(found[0].info.run_id)
    return tracker, tracker.start(name, {"role": "search", "study": name}, {})


@pytest.fixture(scope="module")
def done(store: Path) -> tuple[Confirmation, Screen]:
    screen = Screen()
    return confirm(SETTINGS, *opened(store, "done"), RECORDS, BASELINE, screen), screen


def left(store: Path, name: str) -> list[Path]:
    return [path for path in (store / "checkpoints" / name).rglob("*") if path.is_file()]


def runs(tracker: Tracker, parent: Run) -> list[Any]:
    return tracker.find(**{"mlflow.parentRunId": parent.run_id, "role": "confirm"})


def test_the_best_distinct_configs_and_the_baseline_are_trained_seed_by_seed(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, screen = done
    assert [one.trial for one in found.finalists] == [2, 1] and found.baseline.trial == 0
    expected = [
        (t, f"{d}, seed {s}") for s in (1000, 1001, 1002) for t, d in ((0, "baseline"), (2, "gelu"), (1, "sigmoid"))
    ]
    assert screen.trained == expected and found.trainings == 9 == found.most


def test_every_training_is_a_run_of_the_search_that_can_be_typed_again(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    tracker, parent = opened(store, "done")
    assert len(runs(tracker, parent)) == 9 and tracker.records(parent.run_id) == [], "no trial of the search"
    for arm in (found.baseline, *found.finalists):
        for seed, run_id in arm.runs.items():
            one = tracker.record(run_id)
            assert one.overrides == [*arm.overrides, f"seed={seed}", "trainer.test_samples=32"]
            assert one.value == arm.validation[seed] and one.metrics["test/loss"] == arm.values[seed]
            assert (one.tags["confirms"], one.tags["seed"]) == (arm.run_id, str(seed))


def test_the_numbers_are_those_of_the_paired_differences_on_test_images(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    kept = Trainings(*opened(store, "done"))
    for one in found.finalists:
        pair, base = one.untuned, found.baseline
        each = differences(one.numbers(), base.numbers())
        losses = [kept.tested.of(one.runs[s])[0] - kept.tested.of(base.runs[s])[0] for s in one.runs]
        assert [loss.mean() for loss in losses] == pytest.approx(each)
        error = images_error(sum(losses) / 3, kept.tested.of(one.runs[1000])[1])  # type: ignore[arg-type]
        assert pair.images == pytest.approx(error) and error > 0
        assert pair.pairs == 3 and pair.difference == pytest.approx(sum(each) / 3)
        assert pair.interval == pytest.approx(mean_interval(each, 0.025, error)), "two finalists, one look"
        assert pair.searched == pytest.approx((one.searched or 0) - 0.5)
        assert pair.verdict == SequentialTest(2, 3, 0.95).final(one.numbers(), base.numbers(), error)
        assert (pair.mine, pair.theirs) == pytest.approx((one.mean, base.mean))
        assert one.tuned is None and one.interval is not None and one.interval[0] < one.mean < one.interval[1]
    assert found.seed_df == 6 and found.seed_sd is not None and found.seed_sd > 0
    values = [arm.validation[1000] for arm in found.arms]
    assert values != [arm.values[1000] for arm in found.arms], "test images are not the search's"


def test_ensembles_stand_beside_their_members_and_no_weights_are_left(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    assert [len(one.runs) for one in found.ensembles] == [3, 3, 3, 2]
    for arm, one in zip((found.baseline, *found.finalists), found.ensembles, strict=False):
        assert one.runs == list(arm.runs.values())
        assert one.members_best == min(arm.finite) and one.members_mean == pytest.approx(sum(arm.finite) / 3)
        assert one.value <= one.members_mean, "a square is convex"
    tracker, parent = opened(store, "done")
    assert len(left(store, "done")) == 9, "one of them is to be the best's"
    kept = Trainings(tracker, parent)
    kept.keep(found.finalists[0])
    kept.clear()
    assert left(store, "done") == []
    first = found.finalists[0]
    assert kept.kept(first) == first.runs[first.typical[0]], "the median seed's weights are with its run"
    first.values[1003], first.runs[1003] = -1.0, first.runs[first.typical[-1]]  # a seed more moves the median
    assert first.runs[first.typical[0]] != kept.kept(first) or first.typical[0] == 1000
    del first.values[1003], first.runs[1003]


def test_it_is_read_back_from_the_search_s_run_and_is_not_made_twice(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    tracker, parent = opened(store, "done")
    assert load(tracker, parent.run_id) == found == from_json(to_json(found))
    screen = Screen()
    assert confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, screen) == found and not screen.trained
    names = {file.path for file in tracker.client.list_artifacts(parent.run_id)}
    assert names == {"confirmation.json", "confirmation.svg", "confirmation.txt"}


def test_trainings_that_are_deleted_in_mlflow_or_torn_are_done_again(
    done: tuple[Confirmation, Screen], store: Path, tmp_path: Path
) -> None:
    found, _ = done
    tracker, parent = opened(Path(shutil.copytree(store, tmp_path / "runs")), "done")
    base, first, second = found.arms
    champion, cut, swapped = first.runs[first.typical[0]], second.runs[1000], second.runs[1001]
    assert tracker.files is not None
    tracker.client.delete_run(champion)
    assert missing(tracker, parent.run_id, found.arms) == [champion]
    assert Trainings(tracker, parent).kept(first) in {*first.runs.values()} - {champion}
    tested = {run: tracker.files.folder(run) / TESTED for run in (cut, swapped, base.runs[1001])}
    tested[cut].write_bytes(tested[cut].read_bytes()[:-9])
    shutil.copyfile(tested[base.runs[1001]], tested[swapped])
    screen = Screen()
    again = confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, screen)
    assert [number for number, _ in screen.trained] == [1, 2, 1] or [n for n, _ in screen.trained] == [1, 1, 2]
    assert screen.notes[0] == "deleted in MLflow, so trained again: 1 of the trainings on fresh seeds"
    assert len(screen.notes) == 3 and all(f"its {TESTED} is gone or torn" in note for note in screen.notes[1:])
    assert [one.values for one in again.arms] == [one.values for one in found.arms]
    assert [one.untuned for one in again.finalists] == [one.untuned for one in found.finalists]
    assert missing(tracker, parent.run_id, again.arms) == [] and len(runs(tracker, parent)) == 9
    Trainings(tracker, parent).keep(again.finalists[0])
    top = Trainings(tracker, parent).kept(again.finalists[0])
    assert tracker.active(top) and tracker.has(top, "weights")
    screen = Screen()
    assert confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, screen) == again
    assert not screen.trained and not screen.notes


def test_weights_that_wait_and_are_others_are_in_no_ensemble(store: Path, tmp_path: Path) -> None:
    tracker, parent = opened(store, "waits")
    run = tracker.start("one", {"overrides": "[]", "weights_sha256": sha256({"w": torch.ones(3)})}, {})
    kept, path = Trainings(tracker, parent), tmp_path / "w.safetensors"
    for content, waits in ((save({"w": torch.ones(3)}), True), (save({"w": torch.zeros(3)}), False), (b"torn", False)):
        path.write_bytes(content)
        assert kept.waits(run.run_id, path) == waits
    path.unlink()
    assert not kept.waits(run.run_id, path)


def test_one_function_under_two_names_is_confirmed_once() -> None:
    same = [trial(2, GOOD, 0.4), trial(7, [*TINY, "activation=gelu_sigma"], 0.4), trial(0, BASELINE, 0.5)]
    chosen = start(SETTINGS, [*same, trial(8, [*TINY, "activation=swish"], 0.5)], BASELINE)
    assert [one.trial for one in chosen.finalists] == [2] and not chosen.baseline_best


def test_finalists_are_taken_in_the_order_that_is_given() -> None:
    chosen = start(SETTINGS, [trial(1, BAD, 0.48), trial(0, BASELINE, 0.3), trial(2, GOOD, 0.4)], BASELINE)
    assert [one.trial for one in chosen.finalists] == [1, 2] and chosen.baseline_best


def test_another_finalist_takes_the_baseline_s_runs_and_trains_its_own(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    tracker, parent = opened(store, "done")
    screen = Screen()
    again = confirm(
        Settings(1, 3, 1000, 0.95, 32),
        tracker,
        parent,
        [trial(6, [*TINY, "activation=tanh"], 0.3), *RECORDS],
        BASELINE,
        screen,
    )
    assert [t for t, _ in screen.trained] == [6, 6, 6] and again.baseline.values == found.baseline.values
    assert len(runs(tracker, parent)) == 12


class Killed(BaseException):
    """The process ends here without a word."""


KILLS = ("before it is told", "weights kept, run open", "outcome written, run open", "before the result is written")


@pytest.mark.faults
@pytest.mark.parametrize("moment", KILLS)
def test_a_kill_costs_one_training_at_most_and_counts_nothing_twice(
    moment: str, done: tuple[Confirmation, Screen], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, calls = Settings(1, 3, 1000, 0.95, 32), [0]
    tracker, parent = opened(store, moment)

    def die_at(call: int, then: Any) -> Any:
        def counted(*given: Any, **more: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                raise Killed
            return then(*given, **more)

        return counted

    with monkeypatch.context() as patch:
        if moment == KILLS[0]:
            patch.setattr(trainings, "perform", die_at(4, trainings.perform))
        elif moment == KILLS[1]:
            patch.setattr(Run, "end", die_at(4, Run.end))
        elif moment == KILLS[2]:
            patch.setattr(tracker.client, "set_terminated", die_at(4, tracker.client.set_terminated))
        else:
            patch.setattr(confirming, "picture", die_at(1, confirming.picture))
        with pytest.raises(Killed):
            confirm(one, tracker, parent, RECORDS, BASELINE, Screen())
    screen = Screen()
    tracker, parent = opened(store, moment)
    found = confirm(one, tracker, parent, RECORDS, BASELINE, screen)
    assert len(screen.trained) == {KILLS[0]: 3, KILLS[1]: 3, KILLS[2]: 2, KILLS[3]: 0}[moment]
    first = done[0]
    assert [arm.values for arm in (found.baseline, *found.finalists)] == [
        arm.values for arm in (first.baseline, first.finalists[0])
    ]
    assert [one.value for one in found.ensembles] == [one.value for one in first.ensembles[:2]]
    assert len(runs(tracker, parent)) == 6
    assert {run.info.status for run in runs(tracker, parent)} == {"FINISHED"}
    assert len(left(store, moment)) == 6 and not [path for path in left(store, moment) if path.suffix != ".safetensors"]


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Values by (activation, seed) in the place of trainings; a word is the kind of a failure."""

    def given(values: Any, lr: bool = False) -> list[tuple[str, int]]:
        trained: list[tuple[str, int]] = []

        def perform(composed: Any, run: Run, *rest: Any, **more: Any) -> TrialResult:
            activation, seed = composed.choices["activation"], composed.cfg.seed
            trained.append((activation, seed))
            value = values(activation, seed, composed.cfg.optimizer.lr) if lr else values(activation, seed)
            if isinstance(value, str):
                run.end("failed", {"failure_kind": value, "step": "1"})
                return TrialResult(run.run_id, "failed", 1, None, value, value, None)
            metrics = {"val/loss": value + 1, "test/loss": value}
            run.metrics(4, metrics)
            losses = {"losses": torch.full((32,), value, dtype=torch.float64), "image": torch.arange(32)}
            run.artifacts({TESTED: save(losses)})
            run.end("complete", {"step": "4"})
            return TrialResult(run.run_id, "complete", 4, value + 1, "", "", None, metrics)

        monkeypatch.setattr(trainings, "perform", perform)
        return trained

    return given


def test_a_finalist_whose_case_is_clear_is_trained_no_more(instead: Any, store: Path) -> None:
    noise = [0.0, 0.004, -0.003, 0.002, -0.001]
    worth = {"silu": 0.5, "gelu": 0.2, "sigmoid": 0.5}
    trained = instead(lambda activation, seed: worth[activation] + noise[(seed + len(activation)) % 5])
    found = confirm(Settings(2, 5, 1000, 0.95, 32), *opened(store, "other-1"), RECORDS, BASELINE, Screen())
    assert [sum(name == a for a, _ in trained) for name in ("silu", "gelu", "sigmoid")] == [5, 3, 5]
    gelu, sigmoid = found.finalists
    seen = [(one.untuned.verdict, one.untuned.pairs) for one in (gelu, sigmoid)]
    assert seen == [(BETTER, 3), (OPEN, 5)] and found.best is gelu
    assert gelu.untuned.theirs == pytest.approx(sum(found.baseline.numbers()[:3]) / 3), "on the same seeds"
    assert found.seed_sd == pytest.approx(sequential_test.pooled_sd([arm.finite for arm in found.arms])[0])


def test_an_option_is_compared_with_the_baseline_s_own_best(instead: Any, store: Path) -> None:
    """gelu at its best lr beside silu at its best: most of what it gains on the config as it is was the lr."""
    noise = [0.0, 0.004, -0.003, 0.002, -0.001]
    tuned = [*TINY, "activation=silu", "optimizer.lr=0.003"]
    best = [*TINY, "activation=gelu", "optimizer.lr=0.003"]
    records = ranking.rank([trial(0, BASELINE, 0.5), trial(7, tuned, 0.45), trial(8, best, 0.44), trial(9, BAD, 0.46)])

    def value(name: str, seed: int, lr: float) -> float:
        worth = {"silu": 0.5, "gelu": 0.499, "sigmoid": 0.6}[name] - (0.09 if lr == 0.003 else 0)
        return worth + noise[(seed + sum(map(ord, name)) + int(1000 * lr)) % 5]

    trained = instead(value, lr=True)
    given = (Settings(2, 5, 1000, 0.95, 32), *opened(store, "other-6"), records, BASELINE, Screen())
    found = confirm(*given, tuned=Tuned("silu", records[1]))
    assert found.reference is not None and found.reference.trial == 7
    assert [one.trial for one in found.finalists] == [8, 9] and len(found.arms) == 4
    gelu, sigmoid = found.finalists
    assert gelu.tuned is not None and gelu.asked is gelu.tuned and gelu.tuned.verdict == OPEN
    assert gelu.untuned.verdict == BETTER == found.reference.untuned.verdict and found.reference.tuned is None
    assert gelu.tuned.difference == pytest.approx(
        gelu.untuned.difference - found.reference.untuned.difference,
        abs=1e-12,  # type: ignore[operator]
    )
    assert sigmoid.asked.verdict == WORSE and found.best in (gelu, found.reference)
    assert sum(a == "silu" for a, _ in trained) == 10 and sum(a == "sigmoid" for a, _ in trained) == 3
    reference, first, *_ = sentences(found)
    assert reference.startswith("silu at its own best, trial 7 (optimizer lr 0.003): better by 0.0")
    assert first.startswith("trial 8 (gelu, optimizer lr 0.003): no difference shown to silu at its own best of the")
    assert "; better by 0.0" in first and "than your config as it is, untuned (95 %" in first
    same = start(SETTINGS, records, BASELINE, Tuned("silu", records[-1]))
    assert same.reference is None and same.option == "silu", "the baseline is its option's best itself"
    none = start(SETTINGS, records, BASELINE, Tuned("silu", None))
    assert none.reference is None and none.option == "", "no trial of its option completed"
    assert from_json(to_json(found)) == found


def test_an_arm_goes_on_until_both_its_comparisons_are_clear(instead: Any, store: Path) -> None:
    """gelu is clearly better than silu at its best after three seeds, and than the config as it is after five."""
    noise = {0.002: [0.0, 0.012, 0.003, 0.004, 0.006], 0.003: [0.001, 0.0, 0.002, 0.001, 0.0]}
    tuned, best = ([*TINY, f"activation={name}", "optimizer.lr=0.003"] for name in ("silu", "gelu"))
    records = ranking.rank([trial(0, BASELINE, 0.5), trial(7, tuned, 0.49), trial(8, best, 0.44)])

    def value(name: str, seed: int, lr: float) -> float:
        worth = {("silu", 0.002): 0.5, ("silu", 0.003): 0.53, ("gelu", 0.003): 0.48}[name, lr]
        return worth + noise[lr][(seed + (name == "gelu")) % 5]

    trained = instead(value, lr=True)
    given = (Settings(1, 5, 1000, 0.95, 32), *opened(store, "other-8"), records, BASELINE, Screen())
    found = confirm(*given, tuned=Tuned("silu", records[1]))
    (gelu,) = found.finalists
    first = found.rules[0].verdict(gelu.numbers()[:3], found.reference.numbers()[:3])  # type: ignore[union-attr]
    assert first == BETTER == gelu.untuned.verdict and gelu.untuned.pairs > 3
    assert sum(a == "gelu" for a, _ in trained) == gelu.untuned.pairs and found.best is gelu


def test_one_divergence_is_counted_and_is_no_verdict(instead: Any, store: Path) -> None:
    instead(lambda a, s: "diverged" if (a, s) in (("gelu", 1001), ("silu", 1002)) else 0.5 + (s % 3) * 0.01)
    tracker, parent = opened(store, "other-2")
    found = confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, Screen())
    gelu = found.finalists[0].untuned
    assert gelu.verdict == OPEN and gelu.diverged == (1, 1) and gelu.p == 1.0 and gelu.interval is None
    said = "\n".join(sentences(found))
    assert "diverged on 1 of 3 seeds, that one on 1 (exact test, p 1)" in said
    assert "The baseline failed on 1 of 3 seeds (diverged)" in said
    screen = Screen()
    assert confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, screen) == found and not screen.trained


def test_what_diverges_on_every_seed_is_worse(instead: Any, store: Path) -> None:
    instead(lambda a, s: "diverged" if a == "gelu" else 0.5 + (s % 3) * 0.01)
    given = (Settings(2, 5, 1000, 0.95, 32), *opened(store, "other-7"), RECORDS, BASELINE, Screen())
    found = confirm(*given)
    gelu = found.finalists[0].untuned
    assert gelu.verdict == WORSE and gelu.diverged == (5, 0) and gelu.p == pytest.approx(2 / 252)
    said = "trial 2 (gelu): worse than your config as it is, untuned (both ended on 0 seeds), diverged on 5 of 5 seeds"
    assert sentences(found)[0].startswith(said)
    assert found.best is found.baseline and "nothing is shown to be better" in take(found)


def test_another_failure_is_no_verdict_and_is_tried_again(instead: Any, store: Path) -> None:
    instead(lambda a, s: "out_of_memory" if a == "gelu" else 0.5 + (s % 3) * 0.01)
    tracker, parent = opened(store, "other-3")
    found = confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, Screen())
    assert found.finalists[0].untuned.verdict == OPEN and "(both ended on 0 seeds)" in sentences(found)[0]
    assert "failed on 3 of 3 seeds (out_of_memory)" in sentences(found)[0]
    trained = instead(lambda a, s: 0.4 + (s % 3) * 0.01)
    again = confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, Screen())
    assert {a for a, _ in trained} == {"gelu"} and again.finalists[0].untuned.pairs == 3


def test_with_nothing_to_compare_nothing_is_trained(store: Path) -> None:
    tracker, parent = opened(store, "other-4")
    found = confirm(SETTINGS, tracker, parent, [trial(0, BASELINE, 0.5)], BASELINE, Screen())
    assert not found.finalists and sentences(found) == []
    off = confirm(Settings(0, 3, 1000, 0.95, 32), tracker, parent, RECORDS, BASELINE, Screen())
    assert (
        not off.finalists
        and sentences(off) == []
        and runs(tracker, parent) == []
        and load(tracker, parent.run_id) is None
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": 2}, "search.confirm.seeds=2: must be from 3"),
        ({"finalists": -1}, "search.confirm.finalists=-1: must be from 0"),
        ({"level": 95}, "search.confirm.level=95.0: must be from 0.5"),
        ({"test_samples": 8}, "search.confirm.test_samples=8: must be 16"),
        ({"first_seed": 6}, "the search's own seed 7 is among these 5"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changed: dict[str, Any], message: str) -> None:
    good = {"finalists": 2, "seeds": 5, "first_seed": 1000, "level": 0.95, "test_samples": 64}
    assert read(good, 7) == Settings(2, 5, 1000, 0.95, 64)
    with pytest.raises(UserError, match=message) as error:
        read(good | changed, 7)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_confirmation_and_a_record_that_would_run_code_are_refused(store: Path) -> None:
    for content in (b"[]", b"{", b'{"settings": {}}', json.dumps({"finalists": [1]}).encode()):
        with pytest.raises(UserError, match=r"confirmation.json: not a confirmation"):
            from_json(content)
    tracker, parent = opened(store, "other-5")
    bad = trial(1, [*TINY, "activation._target_=os.system"], 0.1)
    with pytest.raises(UserError, match="would choose code to run"):
        confirm(SETTINGS, tracker, parent, [RECORDS[0], bad], BASELINE, Screen())


def test_the_seed_takes_the_place_of_another_and_of_nothing_else() -> None:
    given = ["seed=3", "trainer.test_samples=4", "optimizer=lion", "+search.seed=1"]
    asked = order(Arm("r", 3, "lion", given, 0.5), 9, 64)
    assert asked.overrides == ["optimizer=lion", "+search.seed=1", "seed=9", "trainer.test_samples=64"]


def made(cost: str | None = None) -> Confirmation:
    """A confirmation with one of each verdict."""
    base = Arm("b", 0, "baseline", [], 0.5, 2.0)
    found = Confirmation(Settings(3, 5, 1000, 0.95, 32), base, [], cost=cost, baseline_best=True)
    base.values = {1000 + i: 0.5 for i in range(5)}
    for number, (name, shift) in enumerate((("muon <lr> 0.01", -0.02), ("relu & co", 0.02), ("gelu", 0.0)), start=1):
        one = Finalist(f"r{number}", number, name, [], 0.48, 1.0)
        noise = (0.001, -0.001, 0.0005, 0.0, -0.0005)
        one.values = {1000 + i: 0.5 + shift + (e * (1 + 9 * (number == 3))) for i, e in enumerate(noise)}
        one.untuned = comparison(one, base, SequentialTest(3, 5, 0.95), 0.0001)
        found.finalists.append(one)
    found.spread = 0.003
    found.ensembles = [EnsembleScore("trial 1 (muon), 5 seeds", ["a"] * 5, 0.47, 0.48, 0.479)]
    return found


def test_what_is_said_is_plain_and_has_the_numbers() -> None:
    better, worse, none, best, *rest = sentences(made())
    as_it_is = "than your config as it is, untuned (95 % interval 0.0"
    assert better.startswith(f"trial 1 (muon <lr> 0.01): better by 0.0200 {as_it_is}")
    assert better.endswith("5 seeds); the search had promised 0.0200 better.")
    assert worse.startswith(f"trial 2 (relu & co): worse by 0.0200 {as_it_is}")
    assert none.startswith("trial 3 (gelu): no difference shown to your config as it is, untuned: 0.0000 ")
    assert " worse to " in none and " better, 5 seeds)" in none
    assert best.startswith("Best: trial 1 (muon <lr> 0.01), test/loss 0.4800 in the mean of 5 seeds")
    assert "baseline itself had the best value" in rest[0] and "all 3 finalists" in rest[1]
    assert "typical seed" in rest[1] and "in 59% of the cases" in rest[1], "0.9^5"
    assert rest[2].startswith("Little is seen by 5 seeds: a difference of 0.0030") and "5 members" in rest[3]


def test_a_cost_stands_beside_every_verdict_of_a_search_that_weighs_it() -> None:
    for line in sentences(made("cost/parameters"))[:3]:
        assert "; at 50% of the baseline's parameters" in line


@pytest.mark.parametrize("width", [80, 150])
def test_the_tables_and_the_picture_show_every_finalist_and_fetch_nothing(width: int) -> None:
    found = made()
    console = Console(width=width, record=True, markup=False)
    for shown in tables(found):
        console.print(shown)
    text = console.export_text()
    for word in ("baseline", "muon <lr> 0.01", BETTER, WORSE, "no difference", "-0.0200", "0.4800 0.5000", "worst"):
        assert word in text, word
    drawn = texts(parsed(picture(found))).splitlines()
    assert [line for line in drawn if line.endswith(" beside your config")] == [
        f"{one.name} beside your config" for one in found.rivals
    ]
    low, high = window(comparisons(found))
    assert all(low < value < high for one in found.rivals for value in (*one.untuned.interval, one.untuned.searched, 0))
    for one in found.finalists:
        one.untuned.difference = one.untuned.interval = one.untuned.searched = None
    parsed(picture(found))


def test_one_test_image_gives_no_interval_and_a_file_all_the_same(
    done: tuple[Confirmation, Screen], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tested, "images_error", lambda *given: math.inf)
    found = from_json(to_json(done[0]))
    confirming.Judge(found, Trainings(*opened(store, "done"))).all()
    assert {one.untuned.verdict for one in found.finalists} == {OPEN}
    assert all(arm.interval is not None for arm in done[0].arms)
    found = from_json(to_json(found))
    assert all(one.untuned.interval is None for one in found.finalists) and sentences(found)


@pytest.mark.parametrize("changed", [{"verdict": "great"}, {"cost": "os.system"}, {"format": 1}])
def test_a_changed_or_older_file_is_none_to_a_report(
    changed: dict[str, Any], done: tuple[Confirmation, Screen], store: Path
) -> None:
    plain = json.loads(to_json(done[0]))
    plain["finalists"][0]["untuned"] |= {key: value for key, value in changed.items() if key == "verdict"}
    plain |= {key: value for key, value in changed.items() if key != "verdict"}
    with pytest.raises(UserError, match="of another version"):
        from_json(json.dumps(plain).encode())
    tracker, parent = opened(store, f"old-{next(iter(changed))}")
    parent.artifacts({"confirmation.json": json.dumps(plain).encode()})
    parent.flush({"confirmed": "1 better"})
    assert stored(tracker, parent.run_id) is None


def test_a_record_is_ranked_as_on_the_leaderboard() -> None:
    assert ranking.rank(RECORDS)[0].number in (2, 3) and math.isinf(
        Arm("", 0, "", [], None, values={1: None}, failures={1: "diverged"}).numbers()[0]
    )

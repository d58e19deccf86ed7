"""Confirmations on real storage with tiny trainings: what is trained, what a kill costs, what is said of it."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from denoise.refusal import Refusal
from search import record
from search.confirm import Confirmation, Settings, picture, sentences, table
from search.confirm import trainings as confirming
from search.confirm.result import Arm, Ensemble, Finalist, from_json, load
from search.confirm.result import settings as read
from search.confirm.statistics import BETTER, OPEN, WORSE, Rule, paired, t_interval
from search.confirm.trainings import confirm, with_seed
from search.record import Record
from search.tracking import Run, Tracker
from search.trial import Trained
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = [*tiny.TINY, "data.batch_size=8", "trainer.max_steps=4", "trainer.val_every=4"]
BASELINE = [*TINY, "activation=silu"]
GOOD, BAD = [*TINY, "activation=gelu"], [*TINY, "activation=sigmoid"]
SETTINGS = Settings(2, 3, 1000, 0.95)


@dataclass
class Screen:
    """Notes what was trained."""

    trained: list[tuple[int | None, str]] = field(default_factory=list)

    def trial_starts(self, trial: int | None, difference: str) -> None:
        self.trained.append((trial, difference))

    def progress(self, step: int, max_steps: int, metrics: dict[str, float]) -> None: ...

    def trial_ends(
        self, outcome: str, step: int, value: float | None, rate: float | None, failure: str = ""
    ) -> None: ...


def trial(number: int, overrides: list[str], value: float | None, outcome: str = "complete") -> Record:
    return Record(number, f"run-{number}", outcome, 4, overrides, value)


RECORDS = record.rank(
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
    assert screen.trained == expected and found.trainings == 9 == SETTINGS.most


def test_every_training_is_a_run_of_the_search_that_can_be_typed_again(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    tracker, parent = opened(store, "done")
    assert len(runs(tracker, parent)) == 9 and tracker.records(parent.run_id) == [], "no trial of the search"
    for arm in (found.baseline, *found.finalists):
        for seed, run_id in arm.runs.items():
            one = tracker.record(run_id)
            assert one.overrides == [*arm.overrides, f"seed={seed}"] and one.value == arm.values[seed]
            assert (one.tags["confirms"], one.tags["seed"]) == (arm.run_id, str(seed))


def test_the_numbers_are_those_of_the_paired_differences(done: tuple[Confirmation, Screen], store: Path) -> None:
    found, _ = done
    for one in found.finalists:
        differences = paired(one.numbers(), found.baseline.numbers())
        assert one.pairs == 3 and one.mean_difference == pytest.approx(sum(differences) / 3)
        assert one.level_used == pytest.approx(0.975), "two finalists, one look"
        assert one.interval == pytest.approx(t_interval(differences, 0.975)) and one.bootstrap is not None
        assert one.search_difference == pytest.approx((one.searched or 0) - 0.5)
        assert one.shrinkage == pytest.approx(one.mean_difference - one.search_difference)
        assert one.verdict == Rule(2, 3, 0.95).verdict(one.numbers(), found.baseline.numbers())
    assert found.seed_df == 6 and found.seed_sd is not None and found.seed_sd > 0


def test_ensembles_stand_beside_their_members_and_no_weights_are_left(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    assert [len(one.runs) for one in found.ensembles] == [3, 3, 3, 2]
    for arm, one in zip((found.baseline, *found.finalists), found.ensembles, strict=False):
        assert one.runs == list(arm.runs.values())
        assert one.members_best == min(arm.finite) and one.members_mean == pytest.approx(sum(arm.finite) / 3)
        assert one.value <= one.members_mean, "a square is convex"
    assert left(store, "done") == []


def test_it_is_read_back_from_the_search_s_run_and_is_not_made_twice(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    tracker, parent = opened(store, "done")
    assert load(tracker, parent.run_id) == found == from_json(found.to_json())
    screen = Screen()
    assert confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, screen) == found and not screen.trained
    names = {file.path for file in tracker.client.list_artifacts(parent.run_id)}
    assert names == {"confirmation.json", "confirmation.svg", "confirmation.txt"}


def test_one_function_under_two_names_is_confirmed_once() -> None:
    same = [trial(2, GOOD, 0.4), trial(7, [*TINY, "activation=gelu_sigma"], 0.4), trial(0, BASELINE, 0.5)]
    chosen = confirming.start(SETTINGS, [*same, trial(8, [*TINY, "activation=swish"], 0.5)], BASELINE)
    assert [one.trial for one in chosen.finalists] == [2] and not chosen.baseline_best


def test_finalists_are_taken_in_the_order_that_is_given() -> None:
    chosen = confirming.start(SETTINGS, [trial(1, BAD, 0.48), trial(0, BASELINE, 0.3), trial(2, GOOD, 0.4)], BASELINE)
    assert [one.trial for one in chosen.finalists] == [1, 2] and chosen.baseline_best


def test_another_finalist_takes_the_baseline_s_runs_and_trains_its_own(
    done: tuple[Confirmation, Screen], store: Path
) -> None:
    found, _ = done
    tracker, parent = opened(store, "done")
    screen = Screen()
    again = confirm(
        Settings(1, 3, 1000, 0.95),
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


@pytest.mark.parametrize("moment", KILLS)
def test_a_kill_costs_one_training_at_most_and_counts_nothing_twice(
    moment: str, done: tuple[Confirmation, Screen], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, calls = Settings(1, 3, 1000, 0.95), [0]
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
            patch.setattr(confirming, "perform", die_at(4, confirming.perform))
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
    assert left(store, moment) == []


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Values by (activation, seed) in the place of trainings; a word is the kind of a failure."""

    def given(values: Any) -> list[tuple[str, int]]:
        trained: list[tuple[str, int]] = []

        def perform(composed: Any, run: Run, *rest: Any, **more: Any) -> Trained:
            activation, seed = composed.choices["activation"], composed.cfg.seed
            trained.append((activation, seed))
            value = values(activation, seed)
            if isinstance(value, str):
                run.end("failed", {"failure_kind": value, "step": "1"})
                return Trained(run.run_id, "failed", 1, None, value, value, None)
            run.metrics(4, {"val/loss": value})
            run.end("complete", {"step": "4"})
            return Trained(run.run_id, "complete", 4, value, "", "", None)

        monkeypatch.setattr(confirming, "perform", perform)
        return trained

    return given


def test_a_finalist_whose_case_is_clear_is_trained_no_more(instead: Any, store: Path) -> None:
    noise = [0.0, 0.004, -0.003, 0.002, -0.001]
    worth = {"silu": 0.5, "gelu": 0.2, "sigmoid": 0.5}
    trained = instead(lambda activation, seed: worth[activation] + noise[(seed + len(activation)) % 5])
    found = confirm(Settings(2, 5, 1000, 0.95), *opened(store, "other-1"), RECORDS, BASELINE, Screen())
    assert [sum(name == a for a, _ in trained) for name in ("silu", "gelu", "sigmoid")] == [5, 3, 5]
    gelu, sigmoid = found.finalists
    assert (gelu.verdict, gelu.pairs, sigmoid.verdict, sigmoid.pairs) == (BETTER, 3, OPEN, 5)
    assert (gelu.level_used or 0) > (sigmoid.level_used or 1), "an early look has a wider interval"


def test_divergence_on_a_fresh_seed_is_worse_and_is_said(instead: Any, store: Path) -> None:
    instead(lambda a, s: "diverged" if (a, s) in (("gelu", 1001), ("silu", 1002)) else 0.5 + (s % 3) * 0.01)
    tracker, parent = opened(store, "other-2")
    found = confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, Screen())
    gelu = found.finalists[0]
    assert gelu.verdict == WORSE and gelu.diverged == 1 and gelu.interval is None and gelu.values[1001] is None
    said = "\n".join(sentences(found))
    assert "trial 2 (gelu): worse than the baseline: diverged on 1 of 3 seeds" in said
    assert "The baseline failed on 1 of 3 seeds (diverged)" in said
    screen = Screen()
    assert confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, screen) == found and not screen.trained


def test_another_failure_is_no_verdict_and_is_tried_again(instead: Any, store: Path) -> None:
    instead(lambda a, s: "out_of_memory" if a == "gelu" else 0.5 + (s % 3) * 0.01)
    tracker, parent = opened(store, "other-3")
    found = confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, Screen())
    assert found.finalists[0].verdict == OPEN and "only 0 of 3 seeds can be compared" in sentences(found)[0]
    trained = instead(lambda a, s: 0.4 + (s % 3) * 0.01)
    again = confirm(SETTINGS, tracker, parent, RECORDS, BASELINE, Screen())
    assert {a for a, _ in trained} == {"gelu"} and again.finalists[0].pairs == 3


def test_with_nothing_to_compare_nothing_is_trained(store: Path) -> None:
    tracker, parent = opened(store, "other-4")
    found = confirm(SETTINGS, tracker, parent, [trial(0, BASELINE, 0.5)], BASELINE, Screen())
    assert not found.finalists and "Nothing was confirmed" in sentences(found)[0]
    off = confirm(Settings(0, 3, 1000, 0.95), tracker, parent, RECORDS, BASELINE, Screen())
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
        ({"first_seed": 6}, "the search's own seed 7 is among these 5"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changed: dict[str, Any], message: str) -> None:
    good = {"finalists": 2, "seeds": 5, "first_seed": 1000, "level": 0.95}
    assert read(good, 7) == Settings(2, 5, 1000, 0.95)
    with pytest.raises(Refusal, match=message) as error:
        read(good | changed, 7)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_confirmation_and_a_record_that_would_run_code_are_refused(store: Path) -> None:
    for content in (b"[]", b"{", b'{"settings": {}}', json.dumps({"finalists": [1]}).encode()):
        with pytest.raises(Refusal, match=r"confirmation.json: not a confirmation"):
            from_json(content)
    tracker, parent = opened(store, "other-5")
    bad = trial(1, [*TINY, "activation._target_=os.system"], 0.1)
    with pytest.raises(Refusal, match="would choose code to run"):
        confirm(SETTINGS, tracker, parent, [RECORDS[0], bad], BASELINE, Screen())


def test_the_seed_takes_the_place_of_another_and_of_nothing_else() -> None:
    assert with_seed(["seed=3", "optimizer=lion", "+search.seed=1"], 9) == [
        "optimizer=lion",
        "+search.seed=1",
        "seed=9",
    ]


def made() -> Confirmation:
    """A confirmation with one of each verdict."""
    found = Confirmation(Settings(3, 5, 1000, 0.95), Arm("b", 0, "baseline", [], 0.5), [], baseline_best=True)
    for number, (name, shift) in enumerate((("muon <lr> 0.01", -0.02), ("relu & co", 0.02), ("gelu", 0.0)), start=1):
        found.finalists.append(Finalist(f"r{number}", number, name, [], 0.48))
        noise = (0.001, -0.001, 0.0005, 0.0, -0.0005)
        found.finalists[-1].values = {
            1000 + i: 0.5 + shift + (e * (1 + 9 * (number == 3))) for i, e in enumerate(noise)
        }
    found.baseline.values = {1000 + i: 0.5 for i in range(5)}
    found.judge(Rule(3, 5, 0.95))
    found.ensembles = [Ensemble("trial 1 (muon), 5 seeds", ["a"] * 5, 0.47, 0.48, 0.479)]
    return found


def test_what_is_said_is_plain_and_has_the_numbers() -> None:
    better, worse, none, *rest = sentences(made())
    assert better.startswith("trial 1 (muon <lr> 0.01): better than the baseline by 0.0200 (95 % interval 0.018")
    assert better.endswith("5 seeds); the search had promised 0.0200.")
    assert worse.startswith("trial 2 (relu & co): worse than the baseline by 0.0200 (95 % interval 0.018")
    assert none.startswith("trial 3 (gelu): no difference shown to the baseline: 0.0000 ")
    assert " worse to " in none and " better, 5 seeds)" in none
    assert "baseline itself had the best value" in rest[0] and "all 3 finalists" in rest[1] and "5 members" in rest[2]


def test_the_table_and_the_picture_show_every_finalist_and_fetch_nothing() -> None:
    found = made()
    console = Console(width=150, record=True, markup=False)
    console.print(table(found))
    text = console.export_text()
    for word in ("baseline", "muon <lr> 0.01", BETTER, WORSE, OPEN, "-0.0200", "bootstrap"):
        assert word in text
    drawn = picture(found)
    root = ET.fromstring(drawn)
    assert (
        len(root.findall(".//{*}g")) == 3 and b"href" not in drawn and b"url(" not in drawn and b"<style" not in drawn
    )
    circles = [float(c.attrib["cx"]) for c in root.findall(".//{*}circle")]
    assert circles[0] < circles[2] < circles[1], "better is on the left"
    empty = made()
    for one in empty.finalists:
        one.mean_difference = one.interval = one.bootstrap = one.search_difference = None
    ET.fromstring(picture(empty))


def test_a_record_is_ranked_as_on_the_leaderboard() -> None:
    assert record.rank(RECORDS)[0].number in (2, 3) and math.isinf(
        Arm("", 0, "", [], None, {}, {1: None}, {1: "diverged"}).numbers()[0]
    )

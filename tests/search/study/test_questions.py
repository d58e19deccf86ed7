"""Whole searches that ask something else than the default: arms, costs, budgets, a space that changed, equal time."""

from pathlib import Path

import pytest

from denoise.config import catalog
from denoise.config.compose import compose
from search.__main__ import main
from search.tracking.record import Record
from search.tracking.tracker import Tracker
from search.trial import equal_time
from tests import quick
from tests.search.study.test_loop import TINY, Searched, books, killed_at, only

pytestmark = pytest.mark.filterwarnings("ignore")
NO_CONFIRM = "search.confirm.finalists=0"


def searched(store: Path, *overrides: str) -> None:
    assert main(["search", f"store={store}", *TINY, NO_CONFIRM, *overrides]) == 0


def latest(store: Path) -> Searched:
    return books(store, Tracker(None, "denoise-search", store).searches()[0].info.run_name)


def value(record: Record, key: str) -> str:
    return dict(text.partition("=")[::2] for text in record.overrides)[key]


ARMS = ["search=ablation", "sampler=random", "search.kinds.activation=[silu,relu]", "search.per_arm=2"]


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    store = tmp_path_factory.mktemp("arms") / "runs"
    searched(store, *ARMS)
    return latest(store)


def test_each_arm_has_its_trials(arms: Searched) -> None:
    found = [value(arms.by_number()[number], "activation") for number in range(4)]
    assert found == ["silu", "relu", "silu", "relu"]
    rates = [value(arms.by_number()[number], "optimizer.lr") for number in range(4)]
    assert rates[0] == rates[1] == "0.002" and rates[2] == rates[3] != "0.002"


@pytest.mark.faults
def test_an_ablation_that_is_killed_ends_with_the_same_trials(arms: Searched, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    moment = "a trial's run is closed and the study does not know"
    killed_at(moment, ["search", f"store={store}", *TINY, NO_CONFIRM, *ARMS])
    searched(store, *ARMS)
    assert latest(store).content() == arms.content()


def test_a_changed_space_keeps_its_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs"
    kinds = [text for text in only("activation", "silu,relu") if "activation" not in text]
    same = [*kinds, "search.enqueue=[]", "pruner=none"]
    searched(store, "search.kinds.activation=[silu,relu]", "search.n_trials=2", *same)
    old = latest(store)
    capsys.readouterr()
    searched(store, "search.kinds.activation=[silu,relu,gelu]", "search.n_trials=1", *same)
    said = capsys.readouterr().out
    assert f"the space has changed (activation +gelu): 2 trials of {old.study.study_name} migrated" in said
    new = latest(store)
    assert new.study.study_name != old.study.study_name and len(new.records) == 3 == len(new.study.trials)
    for number, record in old.by_number().items():
        kept = new.by_number()[number]
        assert kept.tags["carried_from"] == record.run_id
        assert (kept.overrides, kept.value, kept.outcome) == (record.overrides, record.value, record.outcome)
        assert kept.tags["weights_sha256"] == record.tags["weights_sha256"]
    searched(store, "search.kinds.activation=[silu,relu,gelu]", "search.n_trials=1", *same)
    assert latest(store).content() == new.content(), "the same command once more migrates nothing twice"


def test_what_was_trained_in_another_search_is_not_trained_again(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    searched(store, "search.n_trials=2", "pruner=none")
    first = latest(store)
    searched(store, "search.n_trials=2", "pruner=none", "search.name=other")
    again = latest(store)
    assert again.content() == first.content() and again.parent.info.run_id != first.parent.info.run_id
    assert [r.tags.get("duplicate_of") for _, r in sorted(again.by_number().items())] == [
        r.run_id for _, r in sorted(first.by_number().items())
    ]


@pytest.mark.parametrize("before", [False, True], ids=["new", "trained before without the cap"])
def test_a_config_that_costs_too_much_is_not_trained_and_the_sampler_knows(before: bool, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    kinds = [f"search.kinds.{kind}=fixed" for kind in catalog.KINDS]
    domain = "+search.domains.model.width={type:categorical,choices:[8,16]}"
    start = "search.enqueue=[['model.width=16']]"
    if before:
        searched(store, *kinds, domain, start, "search.n_trials=2")
    searched(store, *kinds, domain, start, "search.caps.parameters=50000", "search.n_trials=2")
    found = latest(store)
    dear = found.by_number()[1]
    assert (dear.outcome, dear.step, dear.tags["failure_kind"]) == ("pruned", 0, "cap")
    assert "over search.caps.parameters=50000" in dear.failure and dear.metrics["cost/parameters"] > 50000
    trials = found.study.trials
    assert trials[1].state.name == "PRUNED" and trials[1].constraints["caps.parameters"] > 0
    if not before:
        assert trials[0].constraints["caps.parameters"] < 0
        searched(store, *kinds, domain, start, "search.caps.parameters=500000", "search.n_trials=2")
        wide = [record for record in latest(store).records if value(record, "model.width") == "16"]
        assert any(record.outcome == "complete" for record in wide), "what a lower cap turned away is not tried again"


@pytest.mark.parametrize(
    ("stop", "trials", "said"),
    [("steps=17", 3, "have used 24 optimizer steps"), ("stale=1", 2, "1 complete trials in a row")],
)
def test_a_budget_ends_the_search(
    stop: str, trials: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = "search.enqueue=[['optimizer.lr=0.00001'],['optimizer.lr=0.00002'],['optimizer.lr=0.00003']]"
    wide = ["optimizer.space.lr.low=0.00001", "search.kinds.optimizer=tuned", "search.kinds.activation=[silu]"]
    asked = [bad, *wide, "pruner=none", f"search.stop.{stop}", "search.n_trials=6"]
    for time in ("first", "again: the same command counts what was used before"):
        found, display = quick.run(tmp_path / "runs", asked, monkeypatch)
        begun = [state for _, state, _ in found if state != "WAITING"]
        assert begun == ["COMPLETE"] * trials and any(said in note for note in display.notes), time


def test_the_cost_of_a_pareto_search_is_an_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs"
    narrow = ["search=pareto", "search.cost=parameters", "search.domains.model.width.low=8", "search.n_trials=4"]
    searched(store, *narrow, "search.domains.model.width.high=16")
    found = latest(store)
    for record in found.records:
        if record.outcome == "complete":
            trial = found.study.trials[int(record.number or 0)]
            assert trial.values == [record.value, record.metrics["cost/parameters"]]
    shown = [folder for folder in (store / "artifacts" / found.parent.info.run_id / "artifacts").iterdir()]
    assert {"front.json", "front.svg"} <= {path.name for path in shown}
    said = capsys.readouterr().out
    assert "The front, cheapest first" in said and "complete trials are on the front" in said
    assert main(["report", f"store={store}"]) == 0
    assert "The front, cheapest first" in capsys.readouterr().out


@pytest.mark.parametrize("asks", ["parts", "shape"])
def test_a_space_beyond_one_choice_for_all_is_searched(asks: str, tmp_path: Path) -> None:
    """The files as they are, but small; the best of it is reproduced from its record."""
    store = tmp_path / "runs"
    small = [*TINY, f"search={asks}", "search.n_trials=3", "pruner=none", NO_CONFIRM]
    small += ["search.domains.model.width.low=8"] if asks == "shape" else []
    assert main(["search", f"store={store}", *small]) == 0
    found = latest(store)
    assert [record.outcome for record in found.records if record.outcome != "failed"], found.records
    assert not [record for record in found.records if record.tags.get("failure_kind") == "error"]
    assert len({tuple(record.overrides) for record in found.records}) == 3
    assert main(["reproduce", f"store={store}"]) == 0


def test_equal_time_gives_a_slower_config_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    baseline, slow = [*TINY, "activation=silu"], [*TINY, "activation=gelu"]
    seconds = {"silu": 0.01, "gelu": 0.02}
    monkeypatch.setattr(
        equal_time, "pace", lambda overrides: seconds[compose(list(overrides)).choices["activation"] or ""]
    )

    class Study:
        def __init__(self) -> None:
            self.user_attrs: dict[str, float] = {}

        def set_user_attr(self, name: str, value: float) -> None:
            self.user_attrs[name] = value

    study = Study()
    assert equal_time.equal_time(study, baseline, baseline) == baseline  # type: ignore[arg-type]
    found = compose(equal_time.equal_time(study, slow, baseline)).cfg.trainer  # type: ignore[arg-type]
    assert (found.max_steps, found.val_every) == (4, 1), "half the steps, and as many looks"
    assert study.user_attrs == {"pace": 0.01}


def test_a_pace_is_measured() -> None:
    assert 0 < equal_time.pace(TINY) < 10


def test_what_is_dead_is_not_trained_where_it_is_screened(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    kinds = [f"search.kinds.{kind}=fixed" for kind in catalog.KINDS if kind != "initializer"]
    dead = ["search.kinds.initializer=[torch_default,zeros]", "search.enqueue=[['initializer=zeros']]"]
    searched(store, *kinds, *dead, "search.screen=true", "search.n_trials=2")
    found = latest(store)
    zeros = found.by_number()[1]
    assert (zeros.outcome, zeros.step, zeros.tags["failure_kind"]) == ("failed", 0, "screened")
    assert found.study.trials[1].state.name == "FAIL" and found.by_number()[0].outcome == "complete"


def test_what_cannot_be_paced_is_left_for_its_trial_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equal_time, "STEPS", 2)
    assert equal_time.pace([*TINY, "model.num_heads=3"]) is None
    assert equal_time.pace([*TINY, "optimizer=sgd", "optimizer.lr=1e9", "trainer.log_every=1"]) is None


def test_steps_that_equal_time_gave_go_with_a_trial_that_is_carried_over() -> None:
    before = ["trainer.max_steps=2", "trainer.val_every=1", "activation=relu"]
    found = equal_time.as_it_was(["trainer.max_steps=40", "activation=relu"], before)
    assert found == ["activation=relu", "trainer.max_steps=2", "trainer.val_every=1"]
    same = ["trainer.max_steps=40", "activation=relu"]
    assert equal_time.as_it_was(same, same) == same and equal_time.as_it_was(["activation=relu"], []) == [
        "activation=relu"
    ]

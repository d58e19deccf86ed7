"""The storage that reads in bulk and writes together: Optuna's own as reference, on the same tables."""

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.trial import TrialState, create_trial

from search.storages import history, rdb
from search.storages.rdb import Cached, Storage, together

pytestmark = pytest.mark.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def filled(storage: RDBStorage, number: int = 25, directions: int = 1) -> optuna.Study:
    study = optuna.create_study(storage=storage, study_name="s", directions=["minimize"] * directions)
    luck = random.Random(0)
    for k in range(number):
        if k % 7 == 3:
            study.enqueue_trial({"x": 0.5})
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_categorical("c", ["a", None, 3])
        if k % 2:
            trial.suggest_int("n", 1, 64, log=True)
        trial.set_user_attr("overrides", ["a=1", f"b={k}"])
        if directions == 1:
            for step in range(k % 4):
                trial.report(luck.choice([0.5, float("nan"), float("inf"), -float("inf")]), step)
        if k % 5 == 4:
            study.tell(trial, state=TrialState.FAIL)
        elif k % 6 != 5:
            study.tell(trial, [luck.random()] * directions)
    study.enqueue_trial({"x": 0.1})
    study.add_trial(create_trial(values=[float("inf")] * directions))
    return study


def plain(trials: list[optuna.trial.FrozenTrial]) -> str:
    return repr([sorted(vars(trial).items()) for trial in trials])


@pytest.mark.parametrize("directions", [1, 2])
def test_trials_are_read_as_optuna_reads_them(url: str, directions: int) -> None:
    study = filled(RDBStorage(url), directions=directions)
    theirs, ours = RDBStorage(url), Storage(url)
    assert plain(ours.get_all_trials(study._study_id)) == plain(theirs.get_all_trials(study._study_id))
    for states in [(TrialState.COMPLETE,), (TrialState.RUNNING, TrialState.WAITING)]:
        asked = [each.get_all_trials(study._study_id, states=states) for each in (ours, theirs)]
        assert plain(asked[0]) == plain(asked[1])
    for included, after in [(set(), 10), ({2, 6, 11, 99}, 10), ({2, 6}, -1), (set(range(1, 9)), 4)]:
        asked = [each._get_trials(study._study_id, None, included, after) for each in (ours, theirs)]
        assert plain(asked[0]) == plain(asked[1])
    for trial in study.trials:
        assert plain([ours.get_trial(trial._trial_id)]) == plain([theirs.get_trial(trial._trial_id)])


def test_more_unfinished_trials_than_a_question_may_name_are_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = filled(RDBStorage(url))
    monkeypatch.setattr(rdb, "MANY", 2)
    included = {2, 6, 11, 12}
    asked = [each._get_trials(study._study_id, None, included, 20) for each in (Storage(url), RDBStorage(url))]
    assert plain(asked[0]) == plain(asked[1])


def test_what_is_not_there_is_a_keyerror_as_with_optuna(url: str) -> None:
    storage = Storage(url)
    for call in (lambda: storage.get_all_trials(77), lambda: storage.get_trial(77)):
        with pytest.raises(KeyError):
            call()


def test_a_second_process_sees_what_a_first_one_does(url: str) -> None:
    filled(RDBStorage(url), 3)
    mine, other = (optuna.load_study(study_name="s", storage=Storage(url)) for _ in range(2))
    for study, watching in [(mine, other), (other, mine)] * 2:
        trial = study.ask()
        with together(trial):
            trial.suggest_float("x", 0.0, 1.0)
        assert watching.get_trials(deepcopy=False)[trial.number].params == trial.params
        study.tell(trial, 1.0)
        assert watching.get_trials(deepcopy=False)[trial.number].value == 1.0


def test_the_cache_lists_trials_as_optunas_does(url: str) -> None:
    study = filled(RDBStorage(url))
    ours, theirs = Cached(Storage(url)), _CachedStorage(RDBStorage(url))
    number = study.trials[12]._trial_id
    for cache in (ours, theirs):  # a trial is known before those in front of it
        cache._studies[study._study_id] = _StudyInfo()
        cache._add_trials_to_cache(study._study_id, [cache._backend.get_trial(number)])
    for states in (None, (TrialState.COMPLETE, TrialState.FAIL)):
        for deepcopy in (True, False):
            found = [each.get_all_trials(study._study_id, deepcopy, states) for each in (ours, theirs)]
            assert plain(found[0]) == plain(found[1])
    ours._studies[study._study_id].__dict__.pop("over")
    del ours._studies[study._study_id].trials[3]
    assert [t.number for t in ours.get_all_trials(study._study_id)] == [k for k in range(len(study.trials)) if k != 3]
    copied = ours.get_all_trials(study._study_id)
    copied[0].user_attrs["changed"] = True
    assert "changed" not in ours.get_all_trials(study._study_id)[0].user_attrs


def draw(trial: Any) -> dict[str, Any]:
    return {"x": trial.suggest_float("x", 0.0, 1.0), "c": trial.suggest_categorical("c", ["a", None, 3])}


def test_parameters_written_together_are_those_written_one_by_one(url: str) -> None:
    storage = Storage(url)
    studies = [
        optuna.create_study(storage=storage, study_name=n, sampler=optuna.samplers.RandomSampler(0)) for n in "ab"
    ]
    for k in range(4):
        one, all_ = (study.ask() for study in studies)
        assert isinstance(one.storage, _CachedStorage)
        with together(all_):
            drawn = draw(all_)
            assert studies[1]._storage.get_trial(all_._trial_id).params == {}, "written before all was drawn"
        assert draw(one) == drawn == all_.params
        assert studies[1]._storage.get_trial(all_._trial_id).params == drawn
        for study, trial in zip(studies, (one, all_), strict=True):
            study.tell(trial, float(k))
    found = [[(t.params, t.distributions) for t in study.trials] for study in studies]
    assert found[0] == found[1]


def test_nothing_is_written_of_a_draw_that_ends_in_the_middle(url: str) -> None:
    study = optuna.create_study(storage=Storage(url))
    trial = study.ask()
    with pytest.raises(KeyboardInterrupt), together(trial):
        draw(trial)
        raise KeyboardInterrupt
    assert study.trials[0].params == {}


def test_a_domain_that_is_not_the_studys_is_refused_together_too(url: str) -> None:
    first = optuna.create_study(storage=Storage(url), study_name="s").ask()
    with together(first):
        first.suggest_categorical("c", ["a", "b"])
    again = optuna.load_study(study_name="s", storage=Storage(url)).ask()
    with pytest.raises(ValueError, match="dynamic value space"), together(again):
        again.suggest_categorical("c", ["a", "b", "new"])


@pytest.mark.parametrize("stored", [True, False])
def test_notes_are_user_attributes(url: str, stored: bool) -> None:
    study = optuna.create_study(storage=Storage(url) if stored else None)
    trial = study.ask()
    rdb.note(trial, {"overrides": ["a=1"], "run_id": "r"})
    rdb.note(trial, {"run_id": "s"})
    assert study.trials[0].user_attrs == trial.user_attrs == {"overrides": ["a=1"], "run_id": "s"}


def test_the_history_is_what_a_look_at_every_trial_gives(url: str) -> None:
    """Up to the first trial that runs, in whatever order they end, seen from the start and by one that comes late."""
    study = optuna.create_study(storage=Storage(url), study_name="s")
    luck, under_way = random.Random(1), []
    for k in range(60):
        if under_way and luck.random() < 0.5:
            trial = under_way.pop(luck.randrange(len(under_way)))
            state = luck.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
            rdb.note(trial, {"config_sha256": f"{luck.randrange(6)}"})
            study.tell(trial, luck.random() if state == TrialState.COMPLETE else None, state=state)
        else:
            under_way.append(study.ask())
        if k % 7 == 0:
            late = optuna.load_study(study_name="s", storage=Storage(url))
            for each in (study, late):
                found, trials = history.of(each), each.get_trials(deepcopy=False)
                last = next((t.number for t in trials if not t.state.is_finished()), len(trials)) - 1 - k % 3
                complete = [t for t in trials[: last + 1] if t.state == TrialState.COMPLETE]
                for a in range(6):
                    same = [t.number for t in complete if t.user_attrs["config_sha256"] == f"{a}"]
                    twin = found.twin(f"{a}", last)
                    assert (twin.number if twin else None) == min(same, default=None)

"""Every sampler of conf/sampler: the same search twice, and after kills anywhere, draws the same trials."""

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import qmc

from denoise.config.catalog import CONF
from denoise.config.compose import compose
from denoise.errors import Refusal
from search.samplers import make, support
from search.samplers.seeded import Informative, KeyedSampler
from search.samplers.tpe import TPE, group
from search.storages.rdb import Storage
from search.study import loop
from tests.quick import CHOICES, LISTED, NUMBERS, SMALL, Killed, a_new_process, run

pytestmark = pytest.mark.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
FAIL = TrialState.FAIL
SAMPLERS = sorted(path.stem for path in (CONF / "sampler").glob("*.yaml"))
MORE = {  # what makes a sampler leave its random start within a few trials
    "gp": [*CHOICES, "sampler.n_startup_trials=3"],
    "tpe": [*CHOICES, "sampler.n_startup_trials=3"],
    "cmaes": [*NUMBERS, "sampler.popsize=3"],
    "nsga2": [*CHOICES, "sampler.population_size=3"],
    "brute_force": LISTED,
}
TRIALS = 8
needs_cmaes = pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason="cmaes is not installed")
EACH = [pytest.param(name, marks=needs_cmaes if name == "cmaes" else ()) for name in SAMPLERS]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two stores for all searches of this file: opening new ones costs seconds, and each search is its own study."""
    return tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")


def overrides(sampler: str, trials: int = TRIALS) -> list[str]:
    seed = f"seed={SAMPLERS.index(sampler)}"  # in one store, what was trained in another search is not again
    return [
        f"sampler={sampler}",
        "pruner=successive_halving",
        f"search.n_trials={trials}",
        seed,
        *MORE.get(sampler, CHOICES),
    ]


@pytest.mark.faults
@pytest.mark.parametrize("sampler", EACH)
def test_a_search_twice_and_a_search_with_kills_draw_the_same_trials(
    sampler: str, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a draw, in the middle of a training, and before the study is told."""
    wanted, (whole_store, killed_store) = overrides(sampler), stores
    whole, _ = run(whole_store, wanted, monkeypatch)
    assert len(whole) == (6 if sampler == "brute_force" else TRIALS)
    places = [(Storage, "set_params", 3), (optuna.trial.Trial, "_suggest", 15)]
    places += [(_CachedStorage, "set_trial_intermediate_value", 5), (optuna.Study, "tell", 2)]
    for life, (owner, name, call) in enumerate(places):
        with monkeypatch.context() as patched:
            a_new_process(patched, life)
            patched.setattr(owner, name, dies(getattr(owner, name), call))
            with pytest.raises(Killed):
                run(killed_store, wanted, patched)
    a_new_process(monkeypatch, 99)
    after, _ = run(killed_store, wanted, monkeypatch)
    assert after == whole


def dies(method: Any, call: int) -> Any:
    """The method, whose `call`-th call ends the process."""
    calls: list[int] = []

    def dying(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return method(*args, **more)

    return dying


def quarter(trial: Any, shift: float = 0.0) -> float:
    x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 1e-3, 1.0, log=True)
    return (x - 0.3 - shift) ** 2 + (y - 0.1) ** 2


def searched(sampler: KeyedSampler, number: int, storage_: Any = None) -> optuna.Study:
    study = optuna.create_study(storage=storage_, sampler=sampler)
    for _ in range(number):
        trial = study.ask()
        study.tell(trial, quarter(trial))
    return study


def keyed(sampler: str, *more: str, seed: int = 0) -> KeyedSampler:
    """The sampler as a search config builds it."""
    return make.sampler(compose([f"sampler={sampler}", f"seed={seed}", *more], "search").cfg)


def test_qmc_fills_the_space_as_the_sequence_does_and_better_than_chance() -> None:
    study = optuna.create_study(sampler=keyed("qmc"))
    study.enqueue_trial({"x": 0.5, "y": 0.5})
    study.optimize(quarter, n_trials=33)
    points = np.array([[t.params["x"], np.log10(t.params["y"]) / 3 + 1] for t in study.trials[1:]])
    assert len(np.unique((points * 32).astype(int)[:, 0])) == 32, "each of 32 strips has a point: one sequence"
    assert qmc.discrepancy(points) < 0.5 * qmc.discrepancy(np.random.default_rng(0).random((32, 2)))


def test_qmc_counts_the_trials_that_were_drawn_and_not_those_that_were_given() -> None:
    given_, plain = (optuna.create_study(sampler=keyed("qmc")) for _ in range(2))
    first = {"x": 0.5, "y": 0.5}
    for study, starts in ((given_, 4), (plain, 1)):
        for _ in range(starts):
            study.enqueue_trial(first)
        for _ in range(starts + 4):
            trial = study.ask()
            study.tell(trial, quarter(trial))
    assert [t.params for t in given_.trials[4:]] == [t.params for t in plain.trials[1:]]


@needs_cmaes
def test_cmaes_learns_and_keeps_no_pickle_in_the_study() -> None:
    found, chance = searched(keyed("cmaes"), 60), searched(keyed("random"), 60)
    assert np.median([t.value for t in found.trials[40:]]) < 0.2 * np.median([t.value for t in chance.trials[40:]])
    assert not any("optimizer" in name for t in found.trials for name in t.system_attrs)


@needs_cmaes
def test_cmaes_told_anew_is_the_cmaes_that_was_never_forgotten() -> None:
    """An optimizer of the package itself, told generation by generation what the study says, draws the same next."""
    import cmaes

    sampler = keyed("cmaes", "sampler.popsize=4")
    study = searched(sampler, 14)
    optimizer = cmaes.CMA(mean=np.full(2, 0.5), sigma=1 / 6, bounds=np.array([[0.0, 1.0]] * 2), population_size=4)
    for generation in range(3):
        told = [t for t in study.trials if t.system_attrs.get("cma:generation") == generation]
        assert len(told) == 4
        optimizer.tell([(np.array([t.params["x"], np.log10(t.params["y"]) / 3 + 1]), t.value) for t in told])
    space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(1e-3, 1.0, log=True)}
    inner: Any = sampler.fresh(14)
    trans = _SearchSpaceTransform(space, transform_0_1=True)
    inner._restore_optimizer(study.trials)
    again = inner._init_optimizer(trans, StudyDirection.MINIMIZE)
    assert again.generation == optimizer.generation == 3
    assert again._mean == pytest.approx(optimizer._mean) and again._C == pytest.approx(optimizer._C)
    assert again._sigma == pytest.approx(optimizer._sigma)


@pytest.mark.parametrize(("sampler", "number"), [("tpe", 60), ("gp", 24)])
def test_what_learns_is_better_than_chance(sampler: str, number: int) -> None:
    late = {
        name: np.median([t.value for seed in range(2) for t in searched(keyed(name, seed=seed), number).trials[-12:]])
        for name in (sampler, "random")
    }
    assert late[sampler] < 0.5 * late["random"]


def test_nsga2_inherits_and_counts_the_given_trials_among_the_first_generation() -> None:
    study = optuna.create_study(sampler=keyed("nsga2", "sampler.population_size=4"))
    for value in (0.1, 0.2):
        study.enqueue_trial({"x": value, "y": value})
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, quarter(trial))
    generation = [t.system_attrs["NSGA2:generation"] for t in study.trials]
    assert generation == [0] * 4 + [1] * 4 + [2] * 4
    first = {value for t in study.trials[:4] for value in t.params.values()}
    inherited = [value for t in study.trials[4:8] for value in t.params.values()]
    assert sum(value in first for value in inherited) >= 3


class Conditional:
    """A space like the catalogue's: a choice, a parameter of each option, one that all trials have."""

    def __init__(self, options: int = 3) -> None:
        self.options = [f"o{k}" for k in range(options)]

    def __call__(self, trial: Any) -> float:
        option = trial.suggest_categorical("o", self.options)
        a = trial.suggest_float(f"o.{option}.a", 0.0, 1.0)
        b = trial.suggest_float(f"o.{option}.b", 0.0, 1.0)
        return abs(a - b) + 0.1 * int(option[1:]) + trial.suggest_float("dropout", 0.0, 0.5)


def test_tpe_draws_from_the_densities_of_optunas_group_tpe() -> None:
    """The same groups, and for each of them candidates from the same estimators: Optuna's own as reference."""
    objective = Conditional()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=40)
    reference = TPESampler(multivariate=True, group=True, n_startup_trials=8, seed=0)
    running = create_trial(state=TrialState.RUNNING)
    running.number = 40
    reference.infer_relative_search_space(study, running)
    assert reference._search_space_group is not None
    groups = sorted(sorted(each) for each in reference._search_space_group.search_spaces)
    assert (
        groups == sorted({tuple(group(study.trials, name)) for g in groups for name in g}, key=list)
        or [list(each) for each in sorted({tuple(group(study.trials, name)) for g in groups for name in g})] == groups
    )
    for names in groups:
        space = group(study.trials, names[0])
        ours, theirs = TPE(n_startup_trials=8), TPESampler(multivariate=True, group=True, seed=1)
        ours._rng.rng.seed(5)
        theirs._rng.rng.seed(5)
        assert ours._sample(study, running, space) == theirs._sample(study, running, space)


def test_tpe_draws_no_group_that_the_trial_does_not_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[str]] = []
    sample = TPE._sample
    monkeypatch.setattr(
        TPE, "_sample", lambda self, s, t, space: drawn.append(list(space)) or sample(self, s, t, space)
    )
    study = optuna.create_study(sampler=keyed("tpe", "sampler.groups=true"))
    study.optimize(Conditional(options=20), n_trials=12)
    assert 1 <= len(drawn) <= 2 * 4 + 4


@pytest.mark.faults
def test_tpe_of_one_trial_is_the_same_whatever_was_drawn_before_a_kill() -> None:
    objective = Conditional()
    study = searched_with(objective, keyed("tpe"), 20)
    trial = study.ask()
    objective(trial)
    again = searched_with(objective, keyed("tpe"), 20)
    half = again.ask()
    half.suggest_categorical("o", objective.options)
    resumed = optuna.trial.Trial(optuna_study(again, keyed("tpe")), half._trial_id)
    objective(resumed)
    assert resumed.params == trial.params


FAILS = st.lists(st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]), min_size=8, max_size=30)


@settings(max_examples=20, deadline=None)
@given(FAILS)
def test_tpe_learns_from_a_failed_trial_as_from_the_worst(states: list[TrialState]) -> None:
    """What it draws is what Optuna's TPE draws where the failed trials are pruned ones that reported nothing."""
    space = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(1e-3, 1.0, log=True)}
    rng = np.random.default_rng(len(states))
    made, told = optuna.create_study(), optuna.create_study()
    for state in states:
        x, y = rng.random(), 10 ** -(3 * rng.random())
        seen = {2: x} if state == TrialState.PRUNED else {}
        value = x if state == TrialState.COMPLETE else None
        common = {"params": {"x": x, "y": y}, "distributions": space, "value": value, "intermediate_values": seen}
        made.add_trial(create_trial(state=state, **(common | {"intermediate_values": seen or {1: 5.0}})))
        told.add_trial(create_trial(state=TrialState.PRUNED if state == TrialState.FAIL else state, **common))
    running = create_trial(state=TrialState.RUNNING)
    running.number = len(states)
    for name, domain in space.items():
        ours, theirs = TPE(n_startup_trials=8, groups=False), TPESampler(multivariate=True, seed=1)
        ours._rng.rng.seed(5)
        theirs._rng.rng.seed(5)
        assert ours._sample(made, running, {name: domain}) == theirs._sample(told, running, {name: domain})


def test_tpe_leaves_where_trials_fail() -> None:
    """Of two options one always fails: after some trials it is seldom drawn, by Optuna's own TPE as often as before."""

    def failures(sampler: optuna.samplers.BaseSampler) -> int:
        study = optuna.create_study(sampler=sampler)
        for _ in range(40):
            trial = study.ask()
            option, x = trial.suggest_categorical("option", ["sound", "dead"]), trial.suggest_float("x", 0, 1)
            study.tell(trial, x, skip_if_finished=False) if option == "sound" else study.tell(trial, state=FAIL)
        return sum(trial.state == FAIL for trial in study.trials[10:])

    assert failures(keyed("tpe")) <= 8 and failures(TPESampler(seed=0)) >= 9


def searched_with(objective: Any, sampler: KeyedSampler, number: int) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=number)
    return study


def optuna_study(study: optuna.Study, sampler: KeyedSampler) -> optuna.Study:
    """The study as another process opens it."""
    return optuna.load_study(study_name=study.study_name, storage=study._storage, sampler=sampler)


def trial_of(number: int, state: TrialState, value: float, step: int) -> FrozenTrial:
    made = create_trial(
        state=state, value=value if state == TrialState.COMPLETE else None, intermediate_values={step: value}
    )
    made.number = made._trial_id = number
    return made


ROWS = st.tuples(
    st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]),
    st.floats(0, 1),
    st.integers(1, 4),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ROWS, max_size=30), st.integers(2, 12))
def test_the_history_is_bounded_by_the_best_and_the_latest(rows: list[Any], most: int) -> None:
    """Told trial by trial, and told all at once."""
    done = [trial_of(number, *row) for number, row in enumerate(rows)]
    told = Informative(most, [StudyDirection.MINIMIZE])
    for count in range(len(done) + 1):
        seen = told.of(done[:count])
    assert seen == Informative(most, [StudyDirection.MINIMIZE]).of(done)
    if len(done) <= most:
        assert seen == done
        return
    assert len(seen) == most and [t.number for t in seen] == sorted(t.number for t in seen)
    complete = sorted((t for t in done if t.state == TrialState.COMPLETE), key=lambda t: (t.value, t.number))
    assert all(t in seen for t in complete[: most // 2]), "one of the best is not seen"
    assert all(t in seen for t in done[len(done) - (most - most // 2) :]), "one of the latest is not seen"


def test_a_bounded_history_changes_nothing_below_the_bound_and_draws_above_it() -> None:
    whole = searched(keyed("tpe", "sampler.history=1000"), 130)
    bound = searched(keyed("tpe", "sampler.history=100"), 130)
    params = [[t.params for t in study.trials] for study in (whole, bound)]
    assert params[0][:101] == params[1][:101]
    assert params[0][101:] != params[1][101:]


REFUSED = [
    (["sampler=brute_force", *CHOICES], ["sampler=brute_force", "cannot be listed", "search.kinds.activation"]),
    (["sampler=brute_force", *NUMBERS], ["optimizer.adamw.lr", "optimizer.space.lr.low"]),
    (["sampler=brute_force", *LISTED, "+search.domains.dropout={type:float,low:0.0,high:0.3}"], ["step"]),
    (["sampler=qmc", "sampler.qmc_type=grid"], ["sampler", "grid", "halton"]),
    (["sampler=tpe", "sampler.history=3"], ["sampler.history=3", "100"]),
    (["sampler=nsga2", "sampler.population_size=1"], ["sampler.population_size=1", "2"]),
    pytest.param(["sampler=cmaes", *CHOICES], ["sampler=cmaes", "has none", "sampler=tpe"], marks=needs_cmaes),
]


@pytest.mark.parametrize(("given_", "said"), REFUSED)
def test_a_sampler_refuses_a_space_that_it_cannot_draw_from(given_: list[str], said: list[str], tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        loop.prepare([f"store={tmp_path / 'runs'}", *SMALL, *given_])
    assert "\n" not in str(refused.value) and all(word in str(refused.value) for word in said), refused.value
    assert not (tmp_path / "runs").exists()


def test_a_sampler_of_shared_parameters_says_so_where_others_are_conditional(tmp_path: Path) -> None:
    store = f"store={tmp_path}"
    said = loop.prepare([store, *SMALL, "sampler=gp", *CHOICES]).notes[0]
    assert said.startswith("note: sampler=gp models 3 parameters") and "\n" not in said
    assert loop.prepare([store, *SMALL, "sampler=gp", *NUMBERS]).notes == []
    assert loop.prepare([store, *SMALL, "sampler=tpe", *CHOICES]).notes == []


def test_brute_force_tries_every_point_once_and_ends(
    stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, _ = run(stores[0], [*overrides("brute_force", 50), "pruner=none", "seed=30"], monkeypatch)
    listed = Counter(tuple(each) for each, _, _ in trials)
    assert len(listed) == 6 and set(listed.values()) == {1}


def test_the_points_of_a_space_are_counted() -> None:
    prepared = loop.prepare([*SMALL, *LISTED])
    assert support.points(prepared.space) == 3 * 2
    assert support.points(loop.prepare([*SMALL, *CHOICES]).space) is None
    sizes = [support.size(d) for d in (FloatDistribution(0, 1, step=0.25), CategoricalDistribution([1, 2, 3]))]
    assert (
        sizes == [5, 3]
        and support.size(FloatDistribution(0.5, 0.5)) == 1
        and support.size(FloatDistribution(0, 1)) is None
    )

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
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import qmc

from denoise.config.catalog import CONF
from denoise.errors import UserError
from search.samplers import support
from search.samplers.cmaes import GENERATION, from_unit, unit
from search.samplers.seeded import SeededSampler, informative
from search.samplers.tpe import TPE
from search.storages.trials import Trials
from search.study import loop
from tests import studies
from tests.quick import CHOICES, LISTED, NUMBERS, SMALL, Killed, a_new_process, run
from tests.studies import sampler as keyed

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
    places = [(RDBStorage, "create_new_trial", 3), (SeededSampler, "fresh", 3)]
    places += [(RDBStorage, "set_trial_intermediate_value", 5), (Trials, "end", 2)]
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


UNIT, LOG = FloatDistribution(0.0, 1.0), FloatDistribution(1e-3, 1.0, log=True)


def quarter(choose: Any) -> float:
    x, y = choose("x", UNIT), choose("y", LOG)
    return (x - 0.3) ** 2 + (y - 0.1) ** 2


def searched(sampler: SeededSampler, number: int, objective: Any = quarter) -> list[FrozenTrial]:
    return studies.search(studies.new(), sampler, objective, number)


def given_first(sampler: SeededSampler, starts: list[dict[str, float]], number: int) -> list[FrozenTrial]:
    """So many trials after those that are given whole."""
    study = studies.new()
    for start in starts:
        value, at = studies.ask(study, sampler, quarter, start)
        study.end(at, TrialState.COMPLETE, [value])
    return studies.search(study, sampler, quarter, number)


def test_qmc_fills_the_space_as_the_sequence_does_and_better_than_chance() -> None:
    trials = given_first(keyed("qmc"), [{"x": 0.5, "y": 0.5}], 32)
    points = np.array([[t.params["x"], np.log10(t.params["y"]) / 3 + 1] for t in trials[1:]])
    assert len(np.unique((points * 32).astype(int)[:, 0])) == 32, "each of 32 strips has a point: one sequence"
    assert qmc.discrepancy(points) < 0.5 * qmc.discrepancy(np.random.default_rng(0).random((32, 2)))


def test_qmc_counts_the_trials_that_were_drawn_and_not_those_that_were_given() -> None:
    first = {"x": 0.5, "y": 0.5}
    many, one = given_first(keyed("qmc"), [first] * 4, 4), given_first(keyed("qmc"), [first], 4)
    assert [t.params for t in many[4:]] == [t.params for t in one[1:]]


@needs_cmaes
def test_cmaes_learns_and_keeps_no_pickle_in_the_study() -> None:
    found, chance = searched(keyed("cmaes"), 60), searched(keyed("random"), 60)
    assert np.median([t.value for t in found[40:]]) < 0.2 * np.median([t.value for t in chance[40:]])
    assert {name for t in found for name in t.system_attrs} == {GENERATION}


@needs_cmaes
def test_cmaes_told_anew_is_the_cmaes_that_was_never_forgotten() -> None:
    """An optimizer of the package itself, told generation by generation what the study says, draws the same next."""
    import cmaes

    drawing = keyed("cmaes", "sampler.popsize=4")
    study = studies.new()
    studies.search(study, drawing, quarter, 14)
    seed = drawing.fresh(14).seed  # type: ignore[attr-defined]
    cube = np.array([[0.0, 1.0]] * 2)
    optimizer = cmaes.CMA(mean=np.full(2, 0.5), sigma=1 / 6, bounds=cube, population_size=4, seed=seed)
    for generation in range(3):
        told = [t for t in study.trials if t.system_attrs.get(GENERATION) == generation]
        assert len(told) == 4
        optimizer.tell([(np.array([t.params["x"], np.log10(t.params["y"]) / 3 + 1]), t.value) for t in told])
    drawn = studies.search(study, drawing, quarter, 1)[14]
    assert drawn.system_attrs[GENERATION] == optimizer.generation == 3
    x, y = optimizer.ask()
    assert drawn.params == pytest.approx({"x": x, "y": 10 ** (3 * (y - 1))})


@needs_cmaes
@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.integers(1, 5), st.integers(0, 30), st.booleans(), st.booleans())
def test_cmaes_goes_to_the_unit_cube_and_back(u: float, low: int, more: int, log: bool, whole: bool) -> None:
    domain: Any = (IntDistribution if whole else FloatDistribution)(low, low + more, log=log)
    value = from_unit(domain, u)
    assert low <= value <= low + more and (isinstance(value, int) or not whole)
    if more:
        assert from_unit(domain, unit(domain, value)) == pytest.approx(value)


@pytest.mark.parametrize(("sampler", "number"), [("tpe", 60), ("gp", 24)])
def test_what_learns_is_better_than_chance(sampler: str, number: int) -> None:
    late = {
        name: np.median([t.value for seed in range(2) for t in searched(keyed(name, seed=seed), number)[-12:]])
        for name in (sampler, "random")
    }
    assert late[sampler] < 0.5 * late["random"]


def test_nsga2_inherits_and_counts_the_given_trials_among_the_first_generation() -> None:
    starts = [{"x": value, "y": value} for value in (0.1, 0.2)]
    trials = given_first(keyed("nsga2", "sampler.population_size=4"), starts, 10)
    assert [t.system_attrs["NSGA2:generation"] for t in trials] == [0] * 4 + [1] * 4 + [2] * 4
    first = {value for t in trials[:4] for value in t.params.values()}
    inherited = [value for t in trials[4:8] for value in t.params.values()]
    assert sum(value in first for value in inherited) >= 3


def conditional(choose: Any) -> float:
    """A space like the catalogue's: a choice, parameters of each option, one that all trials have, one of one value."""
    option = choose("o", CategoricalDistribution(["o0", "o1", "o2"]))
    a, b = (choose(f"o.{option}.{name}", UNIT) for name in "ab")
    choose("fixed", FloatDistribution(0.5, 0.5))
    return abs(a - b) + 0.1 * int(option[1:]) + choose("dropout", FloatDistribution(0.0, 0.5))


@pytest.mark.parametrize("groups", ["false", "true"])
def test_tpe_draws_what_optunas_own_does(groups: str) -> None:
    """Optuna's own study of the same trials, asked parameter by parameter with the same seeds, is the reference."""
    drawing = keyed("tpe", f"sampler.groups={groups}")
    trials = searched(drawing, 30, conditional)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    study.add_trials(trials)
    number = study.ask().number
    again = studies.new()
    for trial in trials:
        again.storage.create_new_trial(again.id, trial)
    _, at = studies.ask(again, drawing, conditional)
    running, params = study.trials[number], again.trials[at].params
    assert at == number and params.pop("fixed") == 0.5
    whole: Any = drawing.fresh(number)
    together = whole.sample_relative(study, running, whole.infer_relative_search_space(study, running))
    for name, value in params.items():
        alone = drawing.fresh(number, name).sample_independent(
            study, running, name, again.trials[at].distributions[name]
        )
        assert value == together.get(name, alone)


def test_a_draw_keyed_alike_draws_a_parameter_alike_whatever_is_drawn_before_it() -> None:
    """By its name: arms of an ablation are paired, though one has parameters that the other has not."""
    study, drawing = studies.new(), keyed("random")
    plain = drawing.draw(lambda choose: [str(choose("x", UNIT))], study.trials, 0, keyed=3)
    more = drawing.draw(lambda choose: [str(choose("a", UNIT)), str(choose("x", UNIT))], study.trials, 0, keyed=3)
    assert plain.params["x"] == more.params["x"] != more.params["a"]


ENDS = st.sampled_from([TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(6, 20), st.lists(st.tuples(ENDS, st.floats(0, 1)), min_size=6, max_size=6))
def test_what_is_drawn_does_not_depend_on_what_the_latest_trials_have_come_to(
    lag: int, before: int, ends: list[tuple[TrialState, float]]
) -> None:
    """The last trials but `lag` may run, be over or fail: the next one is the same."""
    sampler = SeededSampler(lambda seeds: TPE(n_startup_trials=4, seed=seeds["seed"]), 0, [StudyDirection.MINIMIZE])

    def suggest(choose: Any) -> list[str]:
        return [choose("kind", CategoricalDistribution(["a", "b", "c"])), str(choose("rate", LOG))]

    def draw(latest: list[tuple[TrialState, float]]) -> list[str]:
        study = studies.new()
        for number in range(before):
            drawn = sampler.draw(suggest, study.trials, number, lag)
            study.insert(number, drawn.params, drawn.domains, {}, drawn.noted)
            k = number - (before - (lag - 1))
            state, value = latest[k] if k >= 0 else (TrialState.COMPLETE, drawn.params["rate"])
            if state != TrialState.RUNNING:
                study.report(number, 1, value)
                study.end(number, state, [value] if state == TrialState.COMPLETE else None)
        return sampler.draw(suggest, study.trials, before, lag).overrides

    assert draw(ends) == draw([(TrialState.COMPLETE, 0.5)] * 6)


def test_what_came_of_the_trials_before_the_latest_counts() -> None:
    """With any lag: other values, another draw."""
    for lag in (1, 4):
        drawn = []
        for better in (1.0, -1.0):
            study = studies.new()
            studies.search(study, keyed("tpe"), lambda choose, s=better: s * quarter(choose), 20)
            drawn.append(keyed("tpe").draw(lambda choose: [str(quarter(choose))], study.trials, 20, lag).params)
        assert drawn[0] != drawn[1]


FAILS = st.lists(st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]), min_size=8, max_size=30)


@settings(max_examples=20, deadline=None)
@given(FAILS)
def test_tpe_learns_from_a_failed_trial_as_from_the_worst(states: list[TrialState]) -> None:
    """What is drawn is what Optuna's TPE draws where the failed trials are pruned ones that reported nothing."""
    rng, drawing = np.random.default_rng(len(states)), keyed("tpe")
    made, told = studies.new(), optuna.create_study()
    for state in states:
        x, y = rng.random(), 10 ** -(3 * rng.random())
        seen = {2: x} if state == TrialState.PRUNED else {}
        value = x if state == TrialState.COMPLETE else None
        domains = {"x": UNIT, "y": LOG}
        common: Any = {
            "params": {"x": x, "y": y},
            "distributions": domains,
            "value": value,
            "intermediate_values": seen,
        }
        made.add_trial(create_trial(state=state, **(common | {"intermediate_values": seen or {1: 5.0}})))
        told.add_trial(create_trial(state=TrialState.PRUNED if state == FAIL else state, **common))
    running = create_trial(state=TrialState.RUNNING)
    running.number = len(states)
    drawn = drawing.draw(lambda choose: [str(quarter(choose))], made.trials, len(states)).params
    for name, domain in (("x", UNIT), ("y", LOG)):
        theirs = drawing.fresh(len(states), name)
        assert drawn[name] == theirs.sample_independent(told, running, name, domain)


def test_tpe_leaves_where_trials_fail() -> None:
    """Of two options one always fails: after some trials it is seldom drawn, by Optuna's own TPE as often as before."""
    options = CategoricalDistribution(["sound", "dead"])

    def half_dead(choose: Any) -> Any:
        option, x = choose("option", options), choose("x", UNIT)
        return x if option == "sound" else FAIL

    theirs = optuna.create_study(sampler=TPESampler(seed=0))
    for _ in range(40):
        trial = theirs.ask({"option": options, "x": UNIT})
        dead = trial.params["option"] == "dead"
        theirs.tell(trial, None if dead else trial.params["x"], state=FAIL if dead else None)
    ours = searched(keyed("tpe"), 40, half_dead)
    assert [sum(t.state == FAIL for t in trials[10:]) for trials in (ours, theirs.trials)] < [9, 0]
    assert sum(t.state == FAIL for t in theirs.trials[10:]) >= 9


def trial_of(number: int, state: TrialState, value: float, step: int) -> FrozenTrial:
    made = create_trial(
        state=state, value=value if state == TrialState.COMPLETE else None, intermediate_values={step: value}
    )
    made.number = number
    return made


ROWS = st.tuples(
    st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]),
    st.floats(0, 1),
    st.integers(1, 4),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ROWS, max_size=30), st.integers(2, 12))
def test_the_history_is_bounded_by_the_best_and_the_latest(rows: list[Any], most: int) -> None:
    done = [trial_of(number, *row) for number, row in enumerate(rows)]
    seen = informative(done, most, [StudyDirection.MINIMIZE])
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
    params = [[t.params for t in trials] for trials in (whole, bound)]
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
    with pytest.raises(UserError) as refused:
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

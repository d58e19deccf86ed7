"""The replay of search strategies against Optuna itself, against formulas, and on what it must not see."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.samplers._tpe.sampler import _split_trials, default_gamma, default_weights
from optuna.trial import TrialState
from scipy.stats import spearmanr

from denoise.config import catalog
from denoise.config.compose import compose
from denoise.errors import UserError
from experiments import tables
from experiments.search_evidence import model, pruners, replay, samplers, starts, strategies, summary, surrogate, table
from experiments.search_evidence.pool import Pool, build, with_starts
from experiments.search_evidence.strategies import STRATEGIES, Strategy, groups_of, search
from search.pruners.funnel import FunnelPruner
from tests.pictures import parsed, texts

optuna.logging.set_verbosity(optuna.logging.ERROR)
RUNGS, EVERY = 8, 16
SPACE: dict[str, Any] = {
    "options": {"colour": ["red", "green", "blue"], "shape": ["round", "square"]},
    "domains": {
        "colour.red.lr": {"low": 1e-4, "high": 1e-1, "log": True, "step": None},
        "colour.red.decay": {"low": 0.0, "high": 0.3, "log": False, "step": None},
        "colour.green.depth": {"low": 1, "high": 6, "log": False, "step": 1},
        "colour.green.width": {"low": 4, "high": 64, "log": True, "step": 1},
        "shape.square.groups": {"choices": [1, 2, 4, 8]},
        "shape.square.gain": {"low": 0.5, "high": 2.0, "log": True, "step": None},
    },
}


def trainings(configs: int, seed: int = 0) -> list[dict[str, Any]]:
    """A table without a training: falling curves, two seeds that agree roughly, some that diverge."""
    rng = np.random.default_rng(seed)
    found = []
    for draw in range(configs):
        colour, shape = (str(rng.choice(SPACE["options"][kind])) for kind in ("colour", "shape"))
        params: dict[str, Any] = {"colour": colour, "shape": shape}
        if colour == "red":
            params |= {"colour.red.lr": float(10 ** rng.uniform(-4, -1)), "colour.red.decay": rng.uniform(0, 0.3)}
        if colour == "green":
            params |= {"colour.green.depth": int(rng.integers(1, 7)), "colour.green.width": int(rng.integers(4, 65))}
        if shape == "square":
            params |= {"shape.square.groups": int(2 ** rng.integers(4)), "shape.square.gain": rng.uniform(0.5, 2)}
        level = 0.5 + 0.1 * SPACE["options"]["colour"].index(colour) + 0.1 * rng.random()
        rate = rng.uniform(0.8, 1.2)
        for one, width in ((0, 8), (1, 8), (0, 16)):
            curve = level + 0.5 * np.exp(-rate * np.arange(1, RUNGS + 1)) + 0.005 * rng.standard_normal(RUNGS)
            failed = rng.random() < 0.05
            length = int(rng.integers(RUNGS)) if failed else RUNGS
            entry = {"draw": draw, "seed": one, "width": width, "params": params, "curve": curve[:length].tolist()}
            entry |= {"outcome": "diverged" if failed else "complete"}
            found.append(entry | {"step": length * EVERY + 5 if failed else RUNGS * EVERY})
    return found


def make(configs: int = 60, seed: int = 0) -> Pool:
    return build(trainings(configs, seed), SPACE)


def prior(pool: Pool, name: str, rows: np.ndarray) -> np.ndarray:
    """The density from which the rows were drawn, in Optuna's measure: in logarithm where the domain is log."""
    domain, x = pool.domains[name], pool.columns[name][rows]
    if isinstance(domain, optuna.distributions.CategoricalDistribution):
        return np.full(len(rows), 1 / len(domain.choices))
    half = (domain.step or 0) / 2
    scale = np.log if domain.log else np.asarray
    span = scale(domain.high + half) - scale(domain.low - half)
    return (scale(x + half) - scale(x - half) if half else np.ones(len(rows))) / span


PARAMETERS = _ParzenEstimatorParameters(1.0, True, False, default_weights, True)


@pytest.mark.parametrize("how", ["independent", "intersection", "group"])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_densities_are_those_of_optunas_parzen_estimator(how: str, count: int) -> None:
    pool = make(90, count)
    rng = np.random.default_rng(count)
    for group in samplers.partition(pool, how):
        observed = rng.permutation(group.members)[:count]
        names = {name: pool.domains[name] for name in group.names}
        theirs = _ParzenEstimator({n: pool.columns[n][observed] for n in names}, names, PARAMETERS)
        values = {name: pool.columns[name][group.members] for name in names}
        relative = theirs.log_pdf(values) - sum(np.log(prior(pool, name, group.members)) for name in names)
        np.testing.assert_allclose(np.log(group.density(observed)), relative, rtol=1e-9, atol=1e-9)
        some = group.members[::3]
        np.testing.assert_allclose(np.log(group.density(observed, some)), relative[::3], rtol=1e-9, atol=1e-9)


def test_groups_are_what_optuna_would_take_together() -> None:
    pool = make()
    named = {how: sorted(group.names for group in groups) for how, groups in groups_of(pool).items()}
    assert len(named["independent"]) == 8 and all(len(names) == 1 for names in named["independent"])
    assert (
        named["group"]
        == [
            ("colour", "shape"),
            ("colour.green.depth", "colour.green.width"),
            ("colour.red.lr", "colour.red.decay"),
            ("shape.square.groups", "shape.square.gain"),
        ]
        or sorted(named["group"]) == named["group"]
    )
    assert ("colour", "shape") in named["intersection"] and len(named["intersection"]) == 7


def study_of(pool: Pool, count: int, seed: int) -> tuple[optuna.Study, list[tuple[int, int, float, bool]]]:
    """A study of complete, pruned and failed trials on rows of a pool, and what a sampler is told of it."""
    rng = np.random.default_rng(seed)
    study, told = optuna.create_study(), []
    for row in rng.permutation(len(pool))[:count]:
        params = {n: v[row] for n, v in pool.columns.items() if not math.isnan(v[row])}
        values = {n: pool.domains[n].to_external_repr(v) for n, v in params.items()}
        reached = int(rng.integers(1, RUNGS + 1))
        complete = reached == RUNGS or rng.random() < 0.2
        curve = np.round(rng.random(reached), 1)  # with ties
        state = TrialState.COMPLETE if complete else TrialState.PRUNED
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=float(curve[-1]),
                params=values,
                distributions={name: pool.domains[name] for name in values},
                intermediate_values={(i + 1) * EVERY: float(v) for i, v in enumerate(curve)},
            )
        )
        told.append((int(row), reached * EVERY, float(curve[-1]), complete))
    return study, told


@pytest.mark.parametrize("how", ["independent", "group"])
@pytest.mark.parametrize("count", [5, 25, 55])
def test_the_ratio_of_densities_is_optunas(how: str, count: int) -> None:
    pool = make(70, 3)
    study, told = study_of(pool, count, count)
    ours = samplers.Tpe(samplers.partition(pool, how), np.random.default_rng(0), startup=1)
    for number, (row, step, value, complete) in enumerate(told):
        ours.tell(number, row, step, value, complete)
        if number % 4 == 3:
            ours.split()  # the densities are renewed bit by bit
    ours.split()
    good, others = _split_trials(study, study.trials, default_gamma(count))
    assert {trial.number for trial in good} == ours.good and {trial.number for trial in others} == ours.others
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = optuna.samplers.TPESampler(multivariate=how == "group", group=how == "group")
    rows = np.arange(len(pool))
    log_l, log_g = np.zeros(len(rows)), np.zeros(len(rows))
    for group in ours.groups:
        names = {name: pool.domains[name] for name in group.names}
        values = {name: pool.columns[name][group.members] for name in names}
        base = sum(np.log(prior(pool, name, group.members)) for name in names)
        for total, trials, below in ((log_l, good, True), (log_g, others, False)):
            total[group.members] += theirs._build_parzen_estimator(study, names, trials, below).log_pdf(values) - base
    np.testing.assert_allclose(ours.log_l, log_l, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(ours.log_g(rows), log_g, rtol=1e-8, atol=1e-8)


def test_a_bound_that_holds_all_trials_changes_nothing_and_a_tight_one_hides_the_middle() -> None:
    pool = make(70, 3)
    _, told = study_of(pool, 40, 1)
    groups = samplers.partition(pool, "independent")
    made = [
        samplers.Tpe(groups, np.random.default_rng(0), best=b, latest=n) for b, n in ((None, None), (40, 40), (5, 8))
    ]
    for number, one in enumerate(told):
        for sampler in made:
            sampler.tell(number, *one)
    free = np.arange(len(pool))
    assert made[0].ask(free) == made[1].ask(free)
    made[2].split()
    shown = made[2].good | made[2].others
    assert {one[3] for one in made[0].order[:5]} | set(range(32, 40)) == shown


def decisions(pruner: optuna.pruners.BasePruner, curves: np.ndarray, name: str, every: int = EVERY) -> list[int]:
    """How many values each trial of a real study reports until it is stopped or done."""
    study = optuna.create_study(pruner=pruner, study_name=name)
    lengths = []
    for curve in curves:
        trial = study.ask()
        for i, value in enumerate(curve):
            trial.report(float(value), (i + 1) * every)
            if i + 1 < len(curve) and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(curve[-1]))
        lengths.append(i + 1)
    return lengths


@pytest.mark.parametrize("every", [1, EVERY])
@pytest.mark.parametrize("rounded", [2, 6])
def test_the_halving_that_finds_its_first_rung_itself_is_optunas_with_its_defaults(every: int, rounded: int) -> None:
    curves = np.round(make(200, 11).curves[0], rounded)
    curves = curves[~np.isnan(curves).any(axis=1)]
    lengths = decisions(optuna.pruners.SuccessiveHalvingPruner(), curves, "a", every)
    ours = STRATEGIES["stock_halving" if every == 1 else "stock_halving_steps"].pruner(make(12), "")
    assert [strategies.train(curve, i, ours)[0] for i, curve in enumerate(curves)] == lengths
    assert lengths[0] == len(curves[0]) and min(lengths) == 1


HALVINGS = [("halving", first, factor) for factor in (2, 3, 4) for first in (16, 32, 64)]


@pytest.mark.parametrize(("kind", "first", "factor"), [*HALVINGS, ("hyperband", 16, 3), ("hyperband", 16, 2)])
def test_halvings_stop_where_optunas_do(kind: str, first: int, factor: int) -> None:
    curves = np.round(make(80, factor).curves[0], 2)
    curves = curves[~np.isnan(curves).any(axis=1)]
    if kind == "halving":
        theirs: Any = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
        ours: Any = pruners.Halving(EVERY, first, factor)
    else:
        theirs = optuna.pruners.HyperbandPruner(first, RUNGS * EVERY, factor)
        ours = pruners.Hyperband(EVERY, first, factor, RUNGS * EVERY, "a")
    assert [strategies.train(curve, i, ours)[0] for i, curve in enumerate(curves)] == decisions(theirs, curves, "a")


@pytest.mark.parametrize("percentile", [25.0, 50.0])
def test_percentiles_stop_where_optunas_do(percentile: float) -> None:
    curves = make(80, 5).curves[0]
    curves = curves[~np.isnan(curves).any(axis=1)]
    theirs = decisions(optuna.pruners.PercentilePruner(percentile), curves, "a")
    ours = pruners.Percentile(percentile)
    assert [strategies.train(curve, i, ours)[0] for i, curve in enumerate(curves)] == theirs


def test_a_funnel_lets_through_what_its_formula_says() -> None:
    curves = make(80, 6).curves[0]
    curves = curves[~np.isnan(curves).any(axis=1)]
    ours, lengths = pruners.Funnel(0.25), []
    for i, curve in enumerate(curves):
        lengths.append(strategies.train(curve, i, ours)[0])
        for rung in range(RUNGS - 1):
            there = [j for j in range(i + 1) if lengths[j] > rung]
            if there[-1:] == [i]:
                place = sum(curves[j][rung] < curve[rung] for j in there)
                goes_on = place < max(1, math.ceil((i + 1) * 0.25 / (rung + 1)))
                assert goes_on == (lengths[i] > rung + 1)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_funnel_of_a_real_study_stops_where_the_replayed_one_does(share: float) -> None:
    curves = np.round(make(80, 7).curves[0], 2)
    curves = curves[~np.isnan(curves).any(axis=1)]
    ours = pruners.Funnel(share)
    replayed = [strategies.train(curve, i, ours)[0] for i, curve in enumerate(curves)]
    assert replayed == decisions(FunnelPruner(EVERY, share), curves, "a")


def test_the_funnel_is_a_choice_of_a_search() -> None:
    cfg = compose(["pruner=funnel"], "search").cfg
    made = catalog.call(cfg.pruner, kind="pruner")
    assert isinstance(made, FunnelPruner) and made.first == cfg.trainer.val_every and made.share == 0.25
    with pytest.raises(UserError, match="share=2"):
        compose(["pruner=funnel", "pruner.share=2"], "search")


@pytest.mark.parametrize("name", ["random", "tpe", "tpe_default", "halving_2_16", "hyperband", "median", "funnel"])
def test_a_search_tries_each_row_once_and_sees_nothing_beyond_its_stop(name: str) -> None:
    pool, among = make(50, 7), np.arange(50) % 5 > 0
    first = search(pool, STRATEGIES[name], groups_of(pool), np.random.default_rng(1), 0, among, lambda row, cost: False)
    assert sorted(first.rows) == sorted(np.flatnonzero(among))
    spent = np.diff(first.cost, prepend=0)
    curves = pool.curves.copy()
    for row, cost in zip(first.rows, spent, strict=True):
        if not pool.failed[0, row]:
            curves[0, row, cost // EVERY :] = 1e6
        assert cost == (pool.failed[0, row] if pool.failed[0, row] and cost % EVERY else cost // EVERY * EVERY)
    curves[1] = -1e6
    blind = Pool(pool.draws, curves, pool.failed, EVERY, pool.columns, pool.domains, pool.kinds)
    again = search(
        blind, STRATEGIES[name], groups_of(blind), np.random.default_rng(1), 0, among, lambda row, cost: False
    )
    for one, other in ((first.rows, again.rows), (first.cost, again.cost), (first.complete, again.complete)):
        np.testing.assert_array_equal(one, other)


def test_random_search_costs_what_the_formula_says() -> None:
    table = [one | {"outcome": "complete", "step": RUNGS * EVERY} for one in trainings(100)]
    for one in table:
        one["curve"] = (np.linspace(1, 0.5, RUNGS) + one["draw"] / 1000).tolist()
    found = replay.replay(build(table, SPACE), STRATEGIES["random"], {}, 400)
    size = found.configs
    for percent, values in found.reached.items():
        good = max(1, round(size * percent / 100))
        expected = (size + 1) / (good + 1)
        assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(len(values))


def test_a_sampler_that_learns_beats_chance_and_a_pruner_saves() -> None:
    pool = make(150, 8)
    groups = groups_of(pool)
    spent = {name: replay.replay(pool, STRATEGIES[name], groups, 30) for name in ("random", "tpe", "funnel")}
    means = {name: np.minimum(one.reached[5], one.configs).mean() for name, one in spent.items()}
    assert means["tpe"] < means["random"] and means["funnel"] < means["tpe"]
    places = replay.summarize(spent)["funnel"]["curve"]["mean"]
    assert places[-1] < places[0] / 4


def test_true_is_the_seed_that_the_search_has_not_seen() -> None:
    """Two seeds without anything in common: what is best with one is nothing with the other, and the mean lies."""
    rng = np.random.default_rng(0)
    table = [one | {"outcome": "complete", "step": RUNGS * EVERY} for one in trainings(300)]
    for one in table:
        one["curve"] = (1 + 0.1 * rng.standard_normal() * np.ones(RUNGS)).tolist()
    pool = build(table, SPACE)
    np.testing.assert_array_equal(pool.unseen(0), pool.curves[1, :, -1])
    np.testing.assert_array_equal(pool.unseen(1), pool.curves[0, :, -1])
    found = {truth: replay.replay(pool, Strategy("random"), {}, 100, truth) for truth in ("unseen", "mean")}
    last = {truth: np.exp(np.log(one.places[:, -1]).mean()) for truth, one in found.items()}
    assert 28 < last["unseen"] < 48, "100 / e where the place is uniform: nothing was learnt of the other seed"
    assert last["mean"] < 10
    pool.curves[1, 0, -1] = np.nan
    assert pool.unseen(0)[0] == np.inf and pool.unseen(1)[0] == pool.curves[0, 0, -1]


def known(values: list[float]) -> Pool:
    """Known starts that end at the given values with either seed."""
    found = []
    for i, value in enumerate(values, start=1):
        entry: dict[str, Any] = {"width": 8, "params": {"colour": "blue", "shape": "round"}, "outcome": "complete"}
        entry |= {"draw": -i, "step": RUNGS * EVERY, "curve": np.linspace(2, value, RUNGS).tolist()}
        found += [{**entry, "seed": seed} for seed in (0, 1)]
    made = build(found, SPACE, 1)
    return made.take(np.argsort(-made.draws))


def test_known_starts_are_tried_first_and_take_no_place() -> None:
    pool = make(50, 7)
    middle = float(np.median(pool.unseen(0)))
    both = with_starts(pool, known([middle, 99.0, -99.0]))
    assert both.starts == (50, 51, 52) and list(both.draws[-3:]) == [-1, -2, -3]
    assert (both.columns["colour"][-3:] == 2).all() and np.isnan(both.columns["colour.red.lr"][-3:]).all()
    among = replay.drawn(both, 3)
    np.testing.assert_array_equal(among[:50], replay.drawn(pool, 3))
    assert not among[50:].any()
    place = replay.places(among, both.unseen(0), both.starts)
    np.testing.assert_array_equal(place[:50], replay.places(among[:50], pool.unseen(0), ()))
    assert list(place[50:]) == [(pool.unseen(0)[among[:50]] < middle).sum(), 40, 0]
    groups = groups_of(both)
    given = (both, STRATEGIES["funnel_starts"], groups, np.random.default_rng(1), 0, among)
    found = search(*given, lambda row, cost: False)
    assert list(found.rows[:3]) == [50, 51, 52] and sorted(found.rows[3:]) == list(np.flatnonzero(among))
    assert found.cost[0] == RUNGS * EVERY, "what is tried first costs what it costs"
    reached = replay.repeat(both, STRATEGIES["funnel_starts"], groups, 3)[0]
    assert reached[0] <= 3, "the third start is better than all, and the first 1 %"


def test_the_starts_on_file_are_those_of_the_default_search() -> None:
    head = table.load()[0]
    listed = [[], *compose([], "search").cfg.search.enqueue]
    lines = [json.loads(line) for line in starts.STARTS.read_text().splitlines()]
    assert [one["typed"] for one in lines[1:]] == [typed for typed in listed for _ in (0, 1)]
    assert all(lines[0][name] == head[name] for name in ("fixed", "steps", "every"))
    made = starts.pool(head["space"])
    assert list(made.draws) == [-1 - i for i in range(len(listed))] and made.curves.shape[2] == 8
    optimizers = [made.domains["optimizer"].to_external_repr(value) for value in made.columns["optimizer"][:4]]
    assert optimizers == ["adamw", "muon", "lion", "momentum"]


def test_the_share_of_variance_and_the_correlations_are_their_formulas() -> None:
    rng = np.random.default_rng(0)
    options = np.repeat(np.arange(5), 400)
    values = options.astype(float) + rng.standard_normal(2000)
    assert summary.explained(values, options) == pytest.approx(2 / 3, abs=0.03)
    assert abs(summary.explained(rng.standard_normal(2000), options)) < 0.01
    x, y = rng.standard_normal((2, 200)) + rng.standard_normal(200)
    value, low, high = summary.correlation(x, y)
    assert value == pytest.approx(spearmanr(x, y).statistic) and low < value < high


def test_the_commands_answer_on_a_table(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(
        "experiments.search_evidence.table.whole_space", lambda: type("Space", (), {"describe": lambda: SPACE})
    )
    monkeypatch.setattr(replay, "SUMMARY", tmp_path / "replay.jsonl")
    monkeypatch.setattr(replay, "PICTURE", tmp_path / "evidence.svg")
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in trainings(40)) + "\n")
    assert summary.main([f"table={path}"]) == 0
    assert "seed 0 and seed 1" in capsys.readouterr().out
    assert replay.main(["repeats=4", "strategies=random,tpe,funnel", f"table={path}"]) == 0
    assert "| `funnel`" in capsys.readouterr().out
    head, records = tables.read(tmp_path / "replay.jsonl")
    assert head["configs"] == 40 and records[1]["strategy"] == "tpe" and records[1]["best_1"]["ratio"] == 1.0
    drawn = texts(parsed((tmp_path / "evidence.svg").read_bytes())).splitlines()
    assert {"random", "tpe", "funnel", "compute, in whole trainings"} < set(drawn)
    for bad in (["repeats=1"], ["strategies=best"], [f"table={tmp_path / 'none.jsonl'}"], ["rows=first"]):
        assert replay.main(bad) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "Traceback" not in said


def test_optunas_own_samplers_search_a_model_of_the_table(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(surrogate, "SUMMARY", tmp_path / "surrogate.jsonl")
    monkeypatch.setattr(surrogate, "MOST", 12)
    names = ("random", "tpe_group", "halving_2_16", "hyperband", "median", "funnel")
    assert surrogate.main(make(60, 9), 2, names, "unseen", "") == 0
    assert "held-out" in capsys.readouterr().out
    head, records = tables.read(tmp_path / "surrogate.jsonl")
    assert {one["strategy"] for one in records} == set(names)
    assert max(head["rank_correlation"].values()) > 0.6  # the colour decides most
    made = model.build(make(60, 9), "mean")[0]
    columns = model.random_columns(made.pool, 2000)
    predicted = made.model.predict(model.encode(made.pool, columns))
    ends = made.curves(predicted, np.random.default_rng(1))[:, :, -1].mean(axis=0)
    assert 0.002 < (ends <= made.target).mean() < 0.03
    assert np.corrcoef(ends, predicted)[0, 1] > 0.6
    own = made.curves(made.held, np.random.default_rng(1)) - made.pool.curves.take(
        made.donors(made.held, np.random.default_rng(1)), axis=1
    )
    assert np.allclose(own, own[:, :, :1])  # a real curve, moved as a whole
    red = columns["colour"] == 0
    assert np.isnan(columns["colour.red.lr"][~red]).all() and (columns["colour.red.lr"][red] > 0).all()


def test_a_strategy_is_told_apart_by_its_words() -> None:
    assert len({one.says for one in STRATEGIES.values()}) == len(STRATEGIES)
    assert isinstance(Strategy("x").pruner(make(12), ""), pruners.Never)

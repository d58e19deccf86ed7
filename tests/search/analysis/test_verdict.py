"""A verdict per choice: the best at a budget, what chance can do, shared ranks, what is said, drawn and kept."""

import io
import itertools
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from denoise.errors import UserError
from search.analysis import rank_correlation as agreement
from search.analysis import verdict
from search.analysis.best_of_n import Chance, OptionTrials, expected_best, resampled_variance, studentized_range
from search.analysis.confirmation import Comparison, Finalist
from search.analysis.importance import Importance, Share
from search.analysis.learning_rate import LrRange
from search.analysis.sequential_test import BETTER, OPEN, WORSE
from search.analysis.verdict import Verdict
from search.report import findings as findings_report
from search.report.findings import Findings
from search.report.plots import verdict as verdict_plot
from search.report.verdict import sentences, table
from search.space.option import differs_alone, option_of
from search.tracking.record import Record
from tests.pictures import HOSTILE, parsed, texts
from tests.search.report.test_leaderboard import BASELINE

judge = partial(verdict.judge, asked=["activation"])  # an ablation of it
DOMAINS = {"optimizer.adamw.lr": {"low": 1e-4, "high": 1e-1, "log": True, "step": None}}
sorted_values = st.lists(st.floats(-10, 10), min_size=1, max_size=5).map(sorted)


def trial(number: int, option: str, value: float | None, outcome: str = "complete", **more: object) -> Record:
    overrides = [f"activation={option}", "optimizer=adamw", f"optimizer.lr={more.pop('lr', 0.01)}"]
    return Record(number, f"{number:x}", outcome, 100, overrides, value, **more)  # type: ignore[arg-type]


def trials(values: dict[str, Sequence[float]]) -> list[Record]:
    pairs = [(option, value) for option, given_values in values.items() for value in given_values]
    return [trial(i, option, value) for i, (option, value) in enumerate(pairs)]


def ablation(
    draw: np.random.Generator, options: int, budget: int, steep: float, parameters: int, seed_sd: float
) -> list[list[float]]:
    """Options that are equal: the same bowl over the tuned parameters, drawn at random, and noise of the seed."""
    place = draw.uniform(-1, 1, (options, budget, parameters))
    bowl = steep * np.minimum((place**2).sum(axis=-1), 0.5)
    return np.sort(bowl + seed_sd * draw.normal(size=bowl.shape), axis=-1).tolist()  # type: ignore[no-any-return]


# the best at a budget


@given(sorted_values, st.integers(0, 3), st.data())
def test_expected_best_is_the_mean_over_all_subsets(values: list[float], stopped: int, data: st.DataObject) -> None:
    n = len(values) + stopped
    m = data.draw(st.integers(1, n))
    bests = [min(chosen) for chosen in itertools.combinations([*values, *[math.inf] * stopped], m)]
    finite = [best for best in bests if math.isfinite(best)]
    assert expected_best(OptionTrials(tuple(values), n), m) == pytest.approx(statistics.fmean(finite), abs=1e-9)


@given(sorted_values, st.integers(0, 1), st.integers(1, 4))
def test_resampled_variance_is_that_over_all_samples(values: list[float], stopped: int, budget: int) -> None:
    every = [*values[:4], *[math.inf] * stopped]
    bests = [min(chosen) for chosen in itertools.product(every, repeat=budget)]
    finite = [best for best in bests if math.isfinite(best)]
    found = resampled_variance(OptionTrials(tuple(values[:4]), len(every)), budget)
    assert found == pytest.approx(statistics.pvariance(finite), abs=1e-9)


def test_expected_best_of_many_trials_is_that_of_their_distribution() -> None:
    values = tuple(sorted(np.random.default_rng(0).uniform(size=4000)))
    assert expected_best(OptionTrials(values, 4000), 9) == pytest.approx(0.1, abs=0.01)  # 1 / (m + 1)


# chance


def test_without_tuning_it_is_tukeys_comparison() -> None:
    draw = np.random.default_rng(1)
    groups = [draw.normal(mean, 1, 4) for mean in (0, 0.5, 3, 5)]
    pooled = statistics.fmean(float(np.var(group, ddof=1)) for group in groups)
    means = [float(group.mean()) for group in groups]
    chance = Chance([OptionTrials((mean,), 1) for mean in means], math.sqrt(pooled / 4), 12)
    first = int(np.argmin(means))
    interval = stats.tukey_hsd(*groups).confidence_interval(0.95)
    for i, mean in enumerate(means):
        found, wanted = (
            chance.behind(OptionTrials((means[first],), 1), OptionTrials((mean,), 1)),
            float(interval.low[i, first]),
        )
        assert found is None if wanted <= 0 else found == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("df", [1.0, 3.7, 12.0, 47.0, 5000.0, math.inf])
def test_rounded_degrees_of_freedom_are_never_too_bold(df: float) -> None:
    assert studentized_range(5, df) >= float(stats.studentized_range.ppf(0.95, 5, df)) - 1e-6


@pytest.mark.parametrize("seed_df", [12, None])
@pytest.mark.parametrize(
    ("options", "budget", "steep", "parameters"), [(2, 8, 10, 1), (3, 6, 10, 2), (8, 10, 0, 1), (8, 10, 30, 1)]
)
def test_equal_options_share_the_first_rank(
    options: int, budget: int, steep: float, parameters: int, seed_df: int | None
) -> None:
    """At least about 95 % of ablations, whatever the landscape: flat, or so steep that tuning is most of the luck."""
    draw, shared = np.random.default_rng(options + budget), 0
    for _ in range(300):
        arms = [OptionTrials(tuple(v), budget) for v in ablation(draw, options, budget, steep, parameters, 1.0)]
        seen = math.sqrt(draw.chisquare(seed_df) / seed_df) if seed_df else None
        chance, first = Chance(arms, seen, seed_df), min(arms, key=lambda arm: arm.values[0])
        shared += all(chance.behind(first, arm) is None for arm in arms)
    assert shared / 300 >= 0.94, f"{shared} of 300"


@pytest.mark.parametrize(("steep", "difference", "often"), [(0, 8, 0.85), (10, 10, 0.85), (10, 16, 0.98)])
def test_a_difference_of_several_seed_sds_is_told_apart(steep: float, difference: float, often: float) -> None:
    draw, told = np.random.default_rng(5), []
    for _ in range(100):
        values = ablation(draw, 6, 10, steep, 1, 1.0)
        arms = [OptionTrials(tuple(v - difference * (i == 0) for v in each), 10) for i, each in enumerate(values)]
        chance = Chance(arms, math.sqrt(draw.chisquare(12) / 12), 12)
        told += [chance.behind(arms[0], arm) is not None for arm in arms[1:]]
    assert statistics.fmean(told) >= often


def test_a_wild_option_does_not_blur_the_others() -> None:
    calm = {f"o{i}": [0.1 * i + 0.001 * j for j in range(6)] for i in range(4)}
    wild = {f"w{i}": [5.0 + 3 * j for j in range(6)] for i in range(3)}
    rows = judge(trials(calm | wild), "activation", BASELINE, seed_sd=0.002, seed_df=12).rows
    assert [row.rank for row in rows[:4]] == [1, 2, 3, 4]


def test_unequal_budgets_are_compared_at_the_smaller() -> None:
    """Many trials of one distribution have a better best than few; that is no difference between the options."""
    draw, told = np.random.default_rng(3), 0
    for _ in range(200):
        many, few = np.sort(draw.uniform(size=60)), np.sort(draw.uniform(size=6))
        arms = [OptionTrials(tuple(many), 60), OptionTrials(tuple(few), 6)]
        told += Chance(arms).behind(*arms) is not None
    assert told <= 12


def test_a_scale_of_the_objective_changes_no_rank() -> None:
    values = ablation(np.random.default_rng(8), 5, 6, 3, 1, 1.0)
    given_values = {f"o{i}": [v + 4 * i for v in each] for i, each in enumerate(values)}
    scaled = {option: [1000 * v for v in each] for option, each in given_values.items()}
    found = [
        [row.rank for row in judge(trials(each), "activation", BASELINE, seed_sd=sd, seed_df=9).rows]
        for each, sd in ((given_values, 1.0), (scaled, 1000.0))
    ]
    assert found[0] == found[1] and max(found[0]) > 1


# rows

outcomes = st.sampled_from(["complete", "pruned", "failed", "running"])
some_trials = st.lists(st.tuples(st.sampled_from("abcd"), outcomes, st.none() | st.floats(allow_nan=True)), max_size=14)


def numbered(given_trials: list[tuple[str, str, float | None]]) -> list[Record]:
    return [trial(i, option, value, outcome) for i, (option, outcome, value) in enumerate(given_trials)]


@given(some_trials, st.none() | st.floats(1e-3, 1), st.randoms())
@settings(max_examples=40, deadline=None)
def test_any_search_has_a_verdict(
    given_trials: list[tuple[str, str, float | None]], seed_sd: float | None, random: object
) -> None:
    found = judge(numbered(given_trials), "activation", BASELINE, seed_sd=seed_sd, seed_df=seed_sd and 8)
    ended = [each for each in numbered(given_trials) if each.outcome != "running"]
    assert sum(row.trials for row in found.rows) == len(ended)
    assert [row.rank for row in found.rows] == sorted(row.rank for row in found.rows)
    bests = [row.best for row in found.rows if row.best is not None]
    assert bests == sorted(bests) and all(row.best is None for row in found.rows[len(bests) :])
    assert all(row.behind is None for row in found.rows if row.rank == 1)
    shuffled = numbered(given_trials)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judge(shuffled, "activation", BASELINE, seed_sd=seed_sd, seed_df=seed_sd and 8) == found
    assert findings_report.read(findings_report.files(Findings([found]))["verdict.json"]).verdicts == [found]
    assert sentences(found)


def test_a_row_says_what_there_was() -> None:
    cost = {"cost/samples_per_second": 100.0, "cost/parameters": 5000.0}
    records = [
        trial(0, "silu", 0.5, metrics=cost),
        trial(1, "silu", 0.3, metrics=cost | {"cost/samples_per_second": 200.0}),
        trial(2, "silu", 0.4),
        trial(3, "silu", 0.1, "pruned"),
        trial(4, "silu", None, "failed", tags={"failure_kind": "diverged"}),
        trial(5, "silu", 0.3, tags={"duplicate_of": "1"}),
        trial(6, "silu", 0.2, "running"),
    ]
    (row,) = judge(records, "activation", BASELINE).rows
    assert (row.trials, row.complete, row.pruned, row.failed) == (6, 4, 1, 1)
    assert row.values == [0.3, 0.4, 0.5] and row.best == 0.3 and row.best_trial == 1 and row.median_top == 0.4
    assert row.samples_per_second == 150 and row.parameters == 5000
    assert row.failure_rate == pytest.approx(1 / 6) and row.note == "baseline, 1 diverged"


def test_what_was_stopped_early_has_no_best_and_stands_before_what_failed() -> None:
    records = [
        trial(0, "silu", 0.5),
        trial(1, "a", None, "failed"),
        trial(2, "z", 0.1, "pruned"),
        trial(3, "z", None, "failed"),
        trial(4, "y", 0.2, "pruned"),
    ]
    rows = judge(records, "activation", BASELINE, seed_sd=0.01, seed_df=8).rows
    assert [(row.option, row.rank, row.best) for row in rows] == [
        ("silu", 1, 0.5),
        ("y", 2, None),
        ("z", 2, None),
        ("a", 3, None),
    ]
    assert rows[1].note == "stopped early, 1 trial"


def test_the_option_of_a_part_follows_the_main_choice() -> None:
    part = "activation@parts.transformer.activation"
    assert option_of(["activation=relu", f"{part}=gelu"], part, BASELINE) == "gelu"
    assert option_of(["activation=relu"], part, BASELINE) == "relu"
    assert option_of([], part, BASELINE) == "silu"
    assert option_of(["placement=pre"], "placement", BASELINE) == "pre"
    assert option_of([], "placement", BASELINE) == "as configured"


@pytest.mark.parametrize(
    ("rates", "values", "wanted"),
    [
        ([0.001, 0.003, 0.01, 0.03], [0.9, 0.52, 0.5, 0.6], LrRange(0.003, 0.01, math.log10(10 / 3))),
        ([0.001, 0.01, 0.099], [0.9, 0.5, 0.5], LrRange(0.01, 0.099, math.log10(9.9), "high")),
        ([0.0001, 0.003, 0.1], [0.5, 0.5, 0.51], LrRange(0.0001, 0.1, 3.0, "both")),
        ([0.01, 0.01, 0.01], [0.5, 0.5, 0.5], None),
        ([0.01, 0.02], [0.5, 0.5], None),
    ],
)
def test_good_learning_rates(rates: list[float], values: list[float], wanted: LrRange | None) -> None:
    records = [trial(i, "silu", v, lr=lr) for i, (lr, v) in enumerate(zip(rates, values, strict=True))]
    found = judge(records, "activation", BASELINE, domains=DOMAINS).rows[0].lr_range
    assert found == wanted if wanted is None else found is not None and found.edge == wanted.edge
    if wanted is not None and found is not None:
        assert (found.low, found.high) == (wanted.low, wanted.high) and found.decades == pytest.approx(wanted.decades)


def test_learning_rates_from_a_list_have_no_edge() -> None:
    listed = {"optimizer.adamw.lr": {"choices": [0.001, 0.01, 0.1]}}
    records = [trial(i, "silu", 0.5, lr=lr) for i, lr in enumerate([0.001, 0.01, 0.1])]
    found = judge(records, "activation", BASELINE, domains=listed).rows[0].lr_range
    assert found is not None and found.edge == ""


def test_good_learning_rates_of_several_optimizers_are_not_thrown_together() -> None:
    records = [trial(i, "silu", 0.5, lr=10**-i) for i in (1, 2, 3, 4)]
    records[0].overrides[1] = "optimizer=muon"
    assert judge(records, "activation", BASELINE).rows[0].lr_range is None
    assert judge(records, "optimizer", BASELINE).rows[0].lr_range is not None


def test_the_tolerance_of_a_learning_rate_is_that_of_the_seeds_where_they_are_known() -> None:
    records = [trial(i, "silu", 0.5 + 0.01 * i, lr=10 ** -(i + 1)) for i in range(3)]
    wide, narrow = (
        judge(records, "activation", BASELINE, seed_sd=sd, seed_df=8).rows[0].lr_range for sd in (None, 0.001)
    )
    assert wide is not None and wide.decades == pytest.approx(2) and narrow is not None and narrow.decades == 0


# what is said, shown and kept

CLEAR = {
    "silu": [0.5, 0.502, 0.51],
    "gelu": [0.501, 0.503, 0.51],
    "relu": [0.6, 0.603, 0.61],
    "sigmoid": [0.9, 0.903, 0.91],
}


def test_the_first_sentence_is_the_answer() -> None:
    (answer, luck, *rest) = sentences(judge(trials(CLEAR), "activation", BASELINE, seed_sd=0.002, seed_df=12))
    assert answer.startswith("activation: silu and gelu cannot be told apart at the top; relu (by 0.0")
    assert "sigmoid (by 0.3" in answer and "95 %" in answer
    assert "0.002" in luck and "12 degrees of freedom" in luck and not rest


def test_one_seed_each_is_said() -> None:
    said = sentences(judge(trials(CLEAR), "activation", BASELINE))
    assert "luck" in said[1] and "One seed each" in said[1]
    alone = judge(trials({"silu": [0.5], "relu": [0.9]}), "activation", BASELINE)
    assert [row.rank for row in alone.rows] == [1, 1] and "too few" in sentences(alone)[1]


def test_a_learning_sampler_is_said() -> None:
    plain = sentences(judge(trials(CLEAR), "activation", BASELINE))
    more = sentences(judge(trials(CLEAR), "activation", BASELINE, independent=False))
    (added,) = [each for each in more if each not in plain]
    assert "not independent" in added


# only what differs in nothing else, and the confirmation before the search's one seed

JOINT = ["trainer.max_steps=9", "activation=silu", "activation.beta=1.0", "optimizer=adamw", "optimizer.lr=0.002"]


def of_joint(number: int, value: float, *changed: str) -> Record:
    names = {text.partition("=")[0] for text in changed}
    gone = {f"{name}." for name in names if "." not in name}
    kept = [t for t in JOINT if t.partition("=")[0] not in names and not t.startswith(tuple(gone) or ("\0",))]
    return Record(number, f"{number:x}", "complete", 9, [*kept, *changed], value)


OF_JOINT = [
    of_joint(0, 0.40),
    of_joint(1, 0.38, "optimizer=muon", "optimizer.lr=0.01"),
    of_joint(2, 0.25, "activation=gelu", "optimizer=muon", "optimizer.lr=0.01"),
    of_joint(3, 0.41, "activation=gelu"),
    of_joint(4, 0.39, "trainer.max_steps=12", "trainer.num_threads=1", "activation=relu"),
]


@pytest.mark.parametrize(
    ("choice", "alone"), [("activation", [0, 3, 4]), ("optimizer", [0, 1]), ("lr_schedule", [0]), ("trainer.x", [0])]
)
def test_a_joint_search_compares_what_differs_in_nothing_else(choice: str, alone: list[int]) -> None:
    assert [r.number for r in OF_JOINT if differs_alone(r.overrides, choice, JOINT)] == alone
    found = verdict.judge(OF_JOINT, choice, JOINT, seed_sd=0.003, seed_df=8)
    assert sum(row.trials for row in found.rows) == len(alone) and found.left_out == 5 - len(alone)
    said = " ".join(sentences(found))
    assert f"search=ablation search.scientific=[{choice}]" in said
    best = {row.option: row.best for row in found.rows}
    assert best.get("gelu") != 0.25 and best.get("muon") != 0.25, "muon's merit is not gelu's"


def test_in_an_ablation_of_two_kinds_the_other_one_stays_as_it_is() -> None:
    asked, tuned = ["activation", "optimizer"], of_joint(5, 0.3, "activation=gelu", "trainer.gradient_clip=1.0")
    assert [r.number for r in [*OF_JOINT, tuned] if differs_alone(r.overrides, "activation", JOINT, asked)] == [
        0,
        3,
        4,
        5,
    ]


def finalist(record: Record, said: str, low: float, high: float) -> Finalist:
    beside = Comparison(said, 5, 0.4, 0.4, (low + high) / 2, (low, high))
    return Finalist(record.run_id, record.number, "x", record.overrides, record.value, untuned=beside)


@pytest.mark.parametrize(
    ("said", "ranks"),
    [(BETTER, {"muon": 1, "adamw": 2}), (WORSE, {"adamw": 1, "muon": 2}), (OPEN, {"muon": 1, "adamw": 1})],
)
@pytest.mark.parametrize("sd", [0.0001, 0.1])
def test_the_confirmation_goes_before_what_one_seed_says(said: str, ranks: dict[str, int], sd: float) -> None:
    """Whether the search's own seed tells the two apart (sd 0.0001) or not (0.1): one truth on a page."""
    ends = {BETTER: (-0.036, -0.007), WORSE: (0.007, 0.036), OPEN: (-0.01, 0.01)}[said]
    found = verdict.judge(
        OF_JOINT, "optimizer", JOINT, finalists=[finalist(OF_JOINT[1], said, *ends)], seed_sd=sd, seed_df=8
    )
    assert {row.option: row.rank for row in found.rows} == ranks
    fresh, answer, *_ = sentences(found)
    shown = f"{said}: {sum(ends) / 2:+.4f} ({ends[0]:+.4f} to {ends[1]:+.4f})"
    assert fresh == f"optimizer: muon beside the baseline's on fresh seeds: {shown}."
    assert ("cannot be told apart" in answer) == (said == OPEN), answer
    if said != OPEN:
        assert f"(by {0.007:.2g} or more)" in answer


def test_what_diverges_more_often_is_worse_without_a_size() -> None:
    one = finalist(OF_JOINT[1], WORSE, -0.115, -0.095)
    one.untuned.diverged, one.untuned.both = (6, 0), 10
    found = verdict.judge(OF_JOINT, "optimizer", JOINT, finalists=[one], seed_sd=0.1, seed_df=8)
    fresh, answer, *_ = sentences(found)
    assert (
        fresh.endswith("diverged on 6 of 10 seeds, that on 0.") and "muon (diverges)" in answer and "by" not in answer
    )
    assert [row.option for row in found.rows] == ["adamw", "muon"]


def test_an_old_verdict_of_what_differed_in_more_is_left_out() -> None:
    plain = json.loads(findings_report.files(findings())["verdict.json"])
    plain["verdicts"][0] |= {"confounded": True}
    plain["verdicts"][1] |= {"confounded": False}
    found = findings_report.read(json.dumps(plain).encode())
    assert [each.choice for each in found.verdicts] == ["activation@parts.transformer.activation"]


def test_a_finalist_that_differs_in_more_says_nothing_of_one_choice() -> None:
    two = finalist(OF_JOINT[2], BETTER, -0.2, -0.1)
    for choice in ("activation", "optimizer"):
        found = verdict.judge(OF_JOINT, choice, JOINT, finalists=[two], seed_sd=0.1, seed_df=8)
        assert not any(row.confirmed for row in found.rows)


def test_unequal_budgets_failures_and_early_stops_are_said() -> None:
    records = [*trials(CLEAR | {"silu": [0.5]}), trial(90, "snake", 0.1, "pruned"), trial(91, "apl", None, "failed")]
    text = " ".join(sentences(judge(records, "activation", BASELINE)))
    assert "1 to 3 trials" in text and "snake was only seen" in text and "apl 1 of 1" in text


def test_an_option_that_is_better_than_all_is_said_to_be() -> None:
    said = sentences(judge(trials({"silu": [0.1, 0.101], "relu": [0.9, 0.91]}), "activation", BASELINE, seed_sd=0.001))
    assert "silu is shown to be better than every other: relu" in said[0]
    nothing = judge([trial(0, "silu", None, "failed")], "activation", BASELINE)
    assert sentences(nothing) == ["activation: no trial completed, so nothing is known."]


def test_the_table_prints_a_rank_once_and_names_with_brackets_as_they_are() -> None:
    records = [*trials(CLEAR), trial(99, "[red]", 0.95)]
    console = Console(record=True, width=150, file=io.StringIO())
    console.print(table(judge(records, "activation", BASELINE, seed_sd=0.002, seed_df=12)))
    lines = [line for line in console.export_text().splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert [row[:3] for row in rows] == [
        ["1", "silu", "0.5000"],
        ["", "gelu", "0.5010"],
        ["2", "relu", "0.6000"],
        ["3", "sigmoid", "0.9000"],
        ["4", "[red]", "0.9500"],
    ]


def test_a_picture_has_a_row_an_option_and_fetches_nothing() -> None:
    values = {f"<option & {i}>": [0.4 + 0.01 * i + 0.002 * j for j in range(6)] for i in range(40)}
    found = judge(trials(values), "activation", BASELINE, seed_sd=0.002, seed_df=12)
    content = verdict_plot.picture(found)
    written = texts(parsed(content)).splitlines()
    assert content == verdict_plot.picture(found) and set(values) < set(written)
    assert {f"{row.best:.4f}" for row in found.rows} < set(written) and {str(row.rank) for row in found.rows} < set(
        written
    )
    x, y = verdict_plot.trials(found.rows)
    low, high = verdict_plot.window(found.rows)
    assert sorted(x) == sorted(v for row in values.values() for v in row) and low < min(x) < high < max(x)
    assert [x[y == i].tolist() for i in range(40)] == [row.values for row in found.rows]
    row = replace(found.rows[0], option=HOSTILE, note=HOSTILE)
    for rows in ([], [row], [replace(row, best=None, low=None, high=None, values=[])], [replace(row, low=None)]):
        parsed(verdict_plot.picture(Verdict(HOSTILE, rows)))


def findings() -> Findings:
    curves = {i: {10: float(i % 7), 20: float(i)} for i in range(12)}
    shares = Importance(40, [Share("activation", 0.7, 0.2), Share("optimizer", 0.3, 0.6)], 0.125, ["optimizer.muon.lr"])
    part = judge(trials(CLEAR), "activation@parts.transformer.activation", BASELINE)
    whole = judge(trials(CLEAR), "activation", BASELINE, seed_sd=0.002, seed_df=12, domains=DOMAINS)
    rungs = agreement.rungs(curves)
    return Findings([whole, part], shares, rungs, [agreement.compare([(1.0, 2.0)] * 3, "width 8", "width 16", 3)])


def test_findings_are_read_back_as_they_were() -> None:
    given_findings = findings()
    written = findings_report.files(given_findings)
    assert sorted(written) == ["verdict-activation.svg", "verdict.json", "verdict.txt"], (
        "no picture of one option alone"
    )
    found = findings_report.read(written["verdict.json"])
    assert found == given_findings and findings_report.files(found) == written
    text = written["verdict.txt"].decode()
    for heading in ("activation: options", "importance over 40", "rank correlation with step 20", "width 8"):
        assert heading in text


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 2}', b'{"format": 1, "verdicts": [{"a": 1}]}'])
def test_what_is_no_verdict_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match=r"verdict\.json"):
        findings_report.read(content)


def test_the_json_has_no_number_that_json_has_not() -> None:
    found = Findings([judge([trial(0, "silu", math.inf), trial(1, "relu", math.nan)], "activation", BASELINE)])
    plain = json.loads(findings_report.files(found)["verdict.json"], parse_constant=pytest.fail)
    assert [row["best"] for row in plain["verdicts"][0]["rows"]] == [None, None]


def test_a_verdict_of_nothing_is_empty() -> None:
    assert judge([], "activation", BASELINE) == Verdict("activation", [])

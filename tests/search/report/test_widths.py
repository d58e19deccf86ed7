"""What is shown at 60, 80, 100 and 200 columns: whole words and figures, and nothing essential given up."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from denoise.evaluation.inspection import Layer
from search.analysis.confirmation import Arm, Comparison, Confirmation, Finalist, Settings
from search.analysis.importance import Importance, Share
from search.analysis.learning_rate import LrRange
from search.analysis.pareto_front import find
from search.analysis.rank_correlation import Agreement
from search.analysis.verdict import Row, Verdict
from search.console.tables import Fitting
from search.report import confirmation as confirmation_report
from search.report import importance, leaderboard, network_health, pareto_front, rank_correlation, verdict
from search.report.progress import Display
from search.tracking.record import Record
from search.trial import reproduce
from tests import quick

WIDTHS = pytest.mark.parametrize("width", [60, 80, 100, 200])
BASELINE = ["model.width=32", "activation=silu", "normalization=group_norm", "optimizer=adamw", "optimizer.lr=0.002"]
LONG = [
    *("model.width=32", "activation=leaky_relu", "activation.negative_slope=0.0213", "normalization=layer_norm"),
    *("weight_normalization=weight_standardization", "initializer=orthogonal", "feed_forward=swiglu"),
    *("optimizer=schedule_free_adamw", "optimizer.lr=0.00234", "optimizer.weight_decay=0.0123"),
    *("lr_schedule=warmup_stable_decay", "lr_schedule.warmup=0.12", "dropout=0.125"),
]
WORDS = (
    "leaky_relu negative_slope 0.0213 weight_standardization schedule_free_adamw weight_decay warmup_stable_decay 0.125"
)
COSTS = {"cost/samples_per_second": 1234.5, "cost/parameters": 1234567.0}
METRICS = {f"m{k}": 0.0 for k in range(2)} | COSTS


def drawn(shown: RenderableType, width: int, height: int = 40) -> str:
    """What a terminal of this size has of it."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, height=height)
    console.print(shown, markup=False, highlight=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width, "a line is wider than the screen"
    assert "…" not in text, "something is cut off"
    return str(text)


def cells(text: str) -> str:
    """All that stands in a table, column after column, so that a folded cell is in one piece."""
    rows = [line.strip("│┃").replace("┃", "│").split("│") for line in text.splitlines() if line[:1] in "│┃"]
    return " ".join(" ".join(cell.strip() for cell in column) for column in zip(*rows, strict=True))


def record(number: int, overrides: list[str], value: float | None, outcome: str = "complete", kind: str = "") -> Record:
    tags = {"failure_kind": kind} if kind else {}
    return Record(number, f"run{number}", outcome, 150, overrides, value, "", METRICS, tags)


RECORDS = [
    record(17, LONG, 0.2315),
    record(0, BASELINE, 0.2402),
    record(4, [*BASELINE[:-1], "optimizer.lr=0.01"], 0.3512, "pruned"),
    record(5, [*BASELINE[:-1], "optimizer.lr=0.1"], None, "failed", "out_of_memory"),
]


@WIDTHS
def test_a_leaderboard(width: int) -> None:
    text = drawn(leaderboard.leaderboard(RECORDS, BASELINE, "joint-3fa2b1c09d77"), width)
    for word in (
        *WORDS.split(),
        "val/loss",
        "0.2315",
        "0.2402",
        "17",
        "pruned at 150",
        "out_of_memory at 150",
        "baseline",
    ):
        assert word in cells(text), word
    assert ("1234" in text) == (width >= 100) and ("samples/s" in text)


@WIDTHS
def test_a_front(width: int) -> None:
    found = find([record(1, LONG, 0.2315), record(0, BASELINE, 0.2402)], "cost/parameters", BASELINE)
    text = cells(drawn(pareto_front.table(found, BASELINE), width))
    assert all(word in text for word in (*WORDS.split(), "0.2315", "1.23 M", "val/loss", "parameters"))


def confirmation(tuned: bool, apart: float) -> Confirmation:
    """Two finalists; `apart` says how near the losses are to each other, and so how many digits are shown."""
    pair = Comparison("better", 5, 0.2315, 0.2315 + apart, -apart, (-1.5 * apart, -0.5 * apart))
    other = Comparison("no difference shown", 5, 0.2415, 0.2315, apart, (-apart, 3 * apart))
    names = ["leaky_relu negative_slope 0.0213, weight_standardization, schedule_free_adamw lr 0.00234", "gelu"]
    seeds = {1000 + k: 0.2315 + k * apart for k in range(5)}
    arms = [Finalist(f"r{k}", 17 + k, name, LONG, 0.23, values=dict(seeds)) for k, name in enumerate(names)]
    for arm, found in zip(arms, (pair, other), strict=True):
        arm.untuned, arm.tuned = found, found if tuned else None
    reference = Finalist("r9", 9, "silu lr 0.01", BASELINE, 0.23, values=dict(seeds), untuned=other) if tuned else None
    baseline = Arm("", 0, "baseline", BASELINE, 0.24, values=dict(seeds))
    return Confirmation(Settings(2, 5, 1000, 0.95, 256), baseline, arms, reference, "silu" if tuned else "")


@WIDTHS
@pytest.mark.parametrize("apart", [0.01, 1e-5])
@pytest.mark.parametrize("tuned", [False, True])
def test_a_confirmation(tuned: bool, apart: float, width: int) -> None:
    found = confirmation(tuned, apart)
    arms, pairs = (cells(drawn(table, width)) for table in confirmation_report.tables(found))
    words = ("leaky_relu", "weight_standardization", "schedule_free_adamw", "mean", f"{0.2315 + 2 * apart:.4f}"[:6])
    assert all(word in arms for word in words)
    digits = 4 if apart == 0.01 else 7
    assert f"{-apart:+.{digits}f} ({-1.5 * apart:+.{digits}f}, {-0.5 * apart:+.{digits}f})" in pairs
    assert "better" in pairs and "no difference shown" in pairs and ("silu, tuned" in pairs) == tuned


def row(option: str, rank: int, **more: object) -> Row:
    given = {"best_trial": 3, "best": 0.2315, "median_top": 0.2402, "low": 0.2301, "high": 0.2333} | more
    given |= {"samples_per_second": 1234.0, "parameters": 1234567, "lr_range": LrRange(1e-4, 0.0123, 2.1, "both")}
    return Row(option, rank, 12, 9, 2, 1, [0.2315], **given)  # type: ignore[arg-type]


@WIDTHS
@pytest.mark.parametrize("note", ["", "diverged on 3 of 12"])
def test_a_verdict(note: str, width: int) -> None:
    rows = [row("schedule_free_adamw", 1), row("lion", 1), row("sgd", 3, note=note)]
    text = cells(drawn(verdict.table(Verdict("optimizer", rows)), width))
    assert all(word in text for word in ("schedule_free_adamw", "lion", "0.2315", "0.2301 to 0.2333", "option"))
    assert note in text or width < 80


@WIDTHS
def test_an_importance(width: int) -> None:
    names = ["optimizer.lr (schedule_free_adamw)", "activation", "normalization.num_groups"]
    shares = [Share(name, 0.52, 0.31, 0.12, 0.2) for name in names]
    text = cells(drawn(importance.table(Importance(24, shares, 0.1)), width))
    assert all(word in text for word in ("(schedule_free_adamw)", "52%*", "31%*", "normalization.num_groups"))


@WIDTHS
def test_an_agreement(width: int) -> None:
    found = [Agreement(f"step {k}", "step 150", 24, 12, 0.71, 0.32, 0.89, 0.25) for k in (15, 50)]
    text = cells(drawn(rank_correlation.table(found), width))
    assert all(word in text for word in ("step 15", "0.71", "0.32 to 0.89", found[0].answer))


@WIDTHS
def test_the_layers_of_a_network(width: int) -> None:
    names = ["embedding.hidden_activation", "down.1.1.feed_forward.activation", "up.0.0.activation_out"]
    layers = [Layer(name, 0.123 * 10**k, 0.00456, 0.0, 0.25) for k, name in enumerate(names)]
    text = drawn(network_health.layers(layers, "unet at initialization: activation silu"), width)
    found = cells(text).replace(" ", "")
    assert all(word in found for word in (*names, "0.0046", "25%", "signal,std", "gradient,rms", "dead"))
    assert ("█" in text) == (width > 80)


@given(
    st.lists(st.text("ab _.1é日", max_size=30), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.integers(40, 120),
)
def test_a_table_is_never_wider_than_the_screen_while_its_essential_columns_fit(
    names: list[str], folds: list[bool], width: int
) -> None:
    table = Fitting("t", spare=range(1, len(names)))
    for name, fold in zip(names, folds, strict=False):
        table.add_column(name, no_wrap=not fold, min_width=3 if fold else None, overflow="fold")
    table.add_row(*["x" * (len(name) + 2) for name in names], style="bold")
    kept = list(table.widths(width))
    assert kept[0] == 0 and kept == sorted(kept)
    text = drawn(table, width)
    assert text.count("x") == sum(len(names[k]) + 2 for k in kept)


@WIDTHS
def test_what_is_reproduced(width: int) -> None:
    rows = [("val/loss_band_0", repr(1 / 3), repr(2 / 3)), ("weights_sha256", "0123456789abcdef", "0123456789abcdef")]
    text = cells(drawn(reproduce.table(reproduce.Reproduction(rows, False, True, "", False, ""), "run 1"), width))
    assert all(
        word in text.replace(" ", "") for word in (repr(1 / 3), repr(2 / 3), "0123456789abcdef", "differs", "same")
    )
    assert repr(1 / 3) in text or width == 60


# the live picture

NAMES = [leaderboard.difference(LONG, BASELINE), "gelu, lion lr 0.0012"]


def display(width: int, height: int, *, resumed: bool = False) -> tuple[Display, Callable[[], str]]:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, height=height)
    shown = Display("joint-3fa2b1c09d77", 24, console)
    if resumed:
        shown.live = object()  # type: ignore[assignment]
        shown.continues(3, (0.2315, 2, NAMES[0]))
    return shown, lambda: drawn(shown.render(), width, height)


def begin(shown: Display, worker: int) -> None:
    shown.trial_starts(20 + worker, NAMES[0], worker)
    shown.progress(60, 150, {"train/loss": 0.3141}, worker)


@WIDTHS
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_picture_of_what_runs(workers: int, width: int) -> None:
    shown, picture = display(width, 200, resumed=True)
    for k, outcome in enumerate(["complete", "pruned", "failed"]):
        shown.trial_starts(k + 3, NAMES[k % 2])
        shown.trial_ends(outcome, 150, 0.24 + k / 100, 1234.4, "diverged: not finite" if k == 2 else "")
    for worker in range(workers):
        begin(shown, worker)
    text = " ".join(picture().split())
    assert "joint-3fa2b1c09d77" in text and "6/24 trials" in text and "elapsed, " in text and "━" * 5 in text
    assert "trial 3 complete step 150 val/loss 0.2400" in text and "(diverged: not finite)" in text
    for worker in range(workers):
        assert f"trial {20 + worker} now" in text
    assert text.count("step 60/150 train/loss 0.3141") == workers
    assert text.count(NAMES[0]) == workers + 3  # two that ended, and the best
    assert f"best val/loss 0.2315 trial 2 {NAMES[0]}" in text


@pytest.mark.parametrize("height", [12, 16, 24, 50])
def test_a_picture_is_as_high_as_the_screen_and_what_runs_goes_first(height: int) -> None:
    shown, picture = display(80, height, resumed=True)
    for k in range(9):
        shown.trial_starts(k + 3, NAMES[k % 2])
        shown.trial_ends("complete", 150, 0.3, 1234.4)
    begin(shown, 0)
    text = picture()
    assert text.count("\n") <= height
    assert "trial  20 now" in text and "best  val/loss 0.2315" in text
    assert ("trial  11  complete" in text) == (height > 12)


def test_the_confirmation_shows_the_best_of_the_search_and_no_seed_as_the_best() -> None:
    shown, picture = display(80, 40, resumed=True)
    shown.phase("confirming on fresh seeds", 15)
    shown.trial_starts(2, f"{NAMES[0]}, seed 1001")
    shown.trial_ends("complete", 150, 0.1, 1234.4)
    text = " ".join(picture().split())
    assert "1/15 trainings" in text and "best of the search (one seed) val/loss 0.2315 trial 2" in text


@pytest.mark.filterwarnings("ignore")
def test_a_search_that_is_resumed_begins_with_the_best_of_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, tuple[float, int, str] | None]] = []
    monkeypatch.setattr(quick.Silent, "continues", lambda self, *given: told.append(given), raising=False)
    given = [*quick.CHOICES, "search.workers=1"]
    trials, _ = quick.run(tmp_path, [*given, "search.n_trials=4", "pruner=none"], monkeypatch)
    quick.run(tmp_path, [*given, "search.n_trials=5", "pruner=none"], monkeypatch)
    value, number = min((curve[8], k) for k, (_, _, curve) in enumerate(trials))
    assert told == [(0, None), (4, (value, number, leaderboard.difference(trials[number][0], trials[0][0])))]


def test_a_resumed_search_says_its_best_in_a_pipe() -> None:
    out = io.StringIO()
    with Display("s", 5, Console(file=out, width=80)) as shown:
        shown.continues(3, (0.2315, 2, NAMES[0]))
    assert (
        f"resumes after 3 trials that are done; best so far: trial 2, val/loss 0.2315, {NAMES[0]}\n" in out.getvalue()
    )
    with Display("s", 5, Console(file=(none := io.StringIO()))) as shown:
        shown.continues(1)
    assert "resumes after 1 trial that is done\n" in none.getvalue()

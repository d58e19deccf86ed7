"""A report: one search in each form, what it counts, and that a page fetches nothing and obeys no name."""

import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from markdown_it import MarkdownIt

from denoise.errors import UserError
from search.analysis.confirmation import Arm, Confirmation, Finalist, Settings, comparison
from search.analysis.sequential_test import SequentialTest
from search.analysis.verdict import Row, Verdict
from search.console import mlflow_pages
from search.console.console import Out
from search.report import account, findings, report
from search.report.findings import Findings
from search.report.forms import markdown, page, terminal
from search.report.plots import curves
from search.report.plots.curves import LearningCurve
from search.report.report import SearchReport
from search.tracking.record import Record

NAME = 'mine_<script src="x.js">alert(1)</script>*_[a](b)|`&amp;'  # an option, as its user may call it
BASELINE = ["activation=silu", "optimizer=adamw", "optimizer.lr=0.002"]
PNG = b"\x89PNG\r\n\x1a\n"
LONG = "geglu, adafactor lr 0.225 weight_decay 0.0901, warmup_cosine warmup 0.0454, dropout 0.125, width 64"
MACHINE = json.dumps({"processor": "a <b>", "torch": "2.13.0"})


def trial(
    number: int, name: str, value: float | None, outcome: str = "complete", step: int = 100, **tags: str
) -> Record:
    overrides = [f"activation={name}", *BASELINE[1:]] if number else BASELINE
    metrics = {"cost/flops_per_step": 2e9, "cost/training_seconds": 3.0, "cost/step_seconds": 0.01 * (number + 1)}
    metrics |= {"health/dead_fraction": 0.125, "health/dead_fraction/down.0": 0.5}
    tags |= {"machine": MACHINE, "code": "0123456789ab"}
    failure = f"diverged: {NAME} at layer 3" if outcome == "failed" else ""
    return Record(number, f"{number:032x}", outcome, step, overrides, value, failure, metrics, tags)


TRIALS = [
    trial(0, "silu", 0.5),
    trial(1, NAME, 0.4),
    trial(2, "gelu", 0.6),
    trial(3, "relu", 0.45),
    trial(4, "mish", 0.8, "pruned", 40),
    trial(5, "elu", None, "failed", 10, failure_kind="diverged", failure_layer="up.1"),
    trial(6, "tanh", 0.7, duplicate_of="another"),
]


def confirmation(*shifts: float, long: str = "") -> Confirmation:
    """The baseline and finalists whose test losses lie so far from it on five seeds."""
    arms: list[Arm] = []
    for number, shift in enumerate((0.0, *shifts)):
        differs = f"{(NAME, 'gelu', LONG)[min(number - 1, 2)]}{long}" if number else "baseline"
        arm = (Finalist if number else Arm)(f"{number:032x}", number, differs, BASELINE, 0.5 + shift)
        for k in range(5):
            seed = 1000 + k
            arm.values[seed] = 0.5 + shift + 0.001 * ((3 * k + number) % 5)
            arm.validation[seed], arm.runs[seed] = arm.values[seed] or 0.0, f"{number}-{seed}"
        arms.append(arm)
    finalists = [arm for arm in arms if isinstance(arm, Finalist)]
    for one in finalists:
        one.untuned = comparison(one, arms[0], SequentialTest(len(finalists), 5, 0.95), 0.0)
    return Confirmation(Settings(len(finalists), 5, 1000, 0.95, 256), arms[0], finalists, spread=0.002)


def verdict(choice: str, *options: str) -> Verdict:
    """A verdict in which the first option is the best."""
    values = [0.4 + 0.1 * k for k in range(len(options))]
    rows = [
        Row(option, 1 + k, 3, 3, 0, 0, [v, v + 0.01], k, v, v, v - 0.01, v + 0.01, v - 0.4 if k else None)
        for k, (option, v) in enumerate(zip(options, values, strict=True))
    ]
    return Verdict(choice, rows, left_out=4, independent=False)


class Books:
    """A tracker that has one search and these files of its runs."""

    experiment_id = "7"

    def __init__(self, records: list[Record], files: dict[tuple[str, str], bytes], **more: Any) -> None:
        tags = {"baseline": json.dumps(BASELINE), "best": "1-1000", "starts": "0, 1", "typed": "[]"}
        tags |= more.pop("tags", {})
        self.run = SimpleNamespace(
            info=SimpleNamespace(run_name="a search", status="FINISHED"),
            data=SimpleNamespace(tags=tags, params={"mode": "joint", "data": "digits"} | more, metrics={}),
        )
        self.every, self.files, self.asked = records, files, list[str]()
        self.client = SimpleNamespace(get_metric_history=self.history)

    def run_of(self, run_id: str) -> Any:
        return self.run

    def records(self, run_id: str) -> list[Record]:
        return list(self.every)

    def history(self, run_id: str, name: str) -> list[Any]:
        self.asked.append(run_id)
        return [SimpleNamespace(step=step, value=1 / step) for step in (20, 10, 40)]

    def has(self, run_id: str, name: str) -> bool:
        return (run_id, name) in self.files

    def artifact(self, run_id: str, name: str, into: Path) -> Path:
        if not self.has(run_id, name):
            raise UserError("none")
        (into / name).write_bytes(self.files[run_id, name])
        return into / name


def made(
    found: Confirmation | None = None, verdicts: tuple[Verdict, ...] = (), records: Any = None, **more: Any
) -> tuple[SearchReport, Books]:
    """The report of a search with these verdicts."""
    content = {"format": findings.FORMAT, **asdict(Findings(list(verdicts)))}
    files = {("parent", findings.NAME): json.dumps(content).encode()} if verdicts else {}
    drawn = ("0-1000", "1-1000", "0-1002", "1-1002", f"{0:032x}", f"{1:032x}")
    files |= {(run, "samples.png"): PNG + run.encode() for run in drawn}
    books = Books(records or TRIALS, files, **more)
    return report.read(books, "parent", found), books  # type: ignore[arg-type]


class Text(HTMLParser):
    """What a page shows, and its tags."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes = list[str](), Counter[str](), list[tuple[str, str]]()
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return plain("".join(self.text))


def plain(text: str) -> str:
    return " ".join(text.split())


def printed(found: SearchReport, width: int = 80) -> str:
    console = Out(width=width, file=io.StringIO())
    terminal.show(console, found, ["", "last"])
    return str(console.file.getvalue())  # type: ignore[attr-defined]


FORMS: dict[str, Callable[[SearchReport], str]] = {
    "terminal": lambda found: plain(printed(found)),
    "page": lambda found: Text(page.render(found).decode()).words,
    "MLflow": lambda found: Text(MarkdownIt("commonmark").enable("table").render(markdown.render(found))).words,
}
VERDICTS = (verdict("activation", NAME, "silu", "gelu"), verdict("optimizer", "adamw", "lion"), verdict("lr", "0.1"))
CASES: dict[str, Callable[[], SearchReport]] = {
    "better": lambda: made(confirmation(-0.1, 0.05), VERDICTS)[0],
    "nothing is": lambda: made(confirmation(0.0), VERDICTS[:1])[0],
    "not confirmed": lambda: made(None, VERDICTS)[0],
    "no choice": lambda: made(confirmation(-0.1))[0],
    "an ablation": lambda: made(confirmation(-0.1), VERDICTS[:1], mode="ablation")[0],
    "a front": lambda: made(confirmation(-0.1), tags={"cost": "cost/step_seconds"})[0],
    "nothing is complete": lambda: made(None, records=TRIALS[4:6])[0],
}


@cache
def case_of(name: str) -> SearchReport:
    """One of the cases, read once."""
    return CASES[name]()


def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the pictures of verdicts and of curves take no time."""
    monkeypatch.setattr(report.verdict_plot, "picture", lambda found: b"<svg")
    monkeypatch.setattr(report.material, "learning", lambda *given: [])


@pytest.mark.parametrize("case", CASES)
def test_every_form_says_the_same_sentences(case: str) -> None:
    found = case_of(case)
    said = [*found.answer, *found.confirmation.said, *found.outcomes.said, *found.cost.said]
    said += [text for each in found.verdicts for text in each.said]
    assert found.answer and bool(found.confirmation.said) == (case not in ("not confirmed", "nothing is complete"))
    for name, form in FORMS.items():
        shown = form(found)
        for sentence in said:
            assert plain(sentence) in shown, (name, sentence)
        assert shown.index(plain(found.answer[0])) < min(
            [shown.index(plain(text)) for text in found.outcomes.said], default=10**6
        )


def test_the_answer_comes_first_and_says_by_how_much() -> None:
    assert case_of("better").answer[0].startswith(f"Trial 1 ({NAME}) is shown to be better by 0.1000 than")
    none = (
        "No config is shown to be better than your config as it is: the best one was trained again beside it on 5 fresh"
    )
    assert case_of("nothing is").answer[0].startswith(none)
    assert case_of("not confirmed").answer[0].startswith("Best: trial 1, val/loss 0.4000 (baseline 0.5000, -20.0%)")
    assert case_of("nothing is complete").answer[0].startswith("No trial completed")
    tuned = replace(confirmation(-0.1), option="silu")
    tuned.finalists[0].tuned = tuned.finalists[0].untuned
    assert "than silu at its own best of the same budget" in made(tuned)[0].answer[0]
    assert "on the front" in case_of("a front").answer[-1]
    assert "activation: " in case_of("an ablation").answer[-1], "what an ablation asks is a part of its answer"


def test_only_choices_of_which_something_was_compared_have_a_section() -> None:
    titles = [part.title for part in case_of("better").parts]
    assert "Which optimizer?" in titles and "Which lr?" not in titles and "Quality against cost" not in titles
    assert case_of("no choice").verdicts == ()
    assert not set(findings.files(Findings([VERDICTS[2]]))) & {"verdict-lr.svg"}, "nor a picture among the artifacts"


def test_a_default_search_takes_sixty_lines_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long names, twenty complete trials, two finalists, four choices of which something is said."""
    undrawn(monkeypatch)
    known = [trial(0, "silu", 0.5), *(trial(k, f"{LONG.replace(', ', '_')}_{k}", 0.4 + k / 100) for k in range(1, 20))]
    known += [trial(k, "relu", 0.9, "pruned", 40) for k in range(20, 36)]
    some = tuple(verdict(kind, "option_of_some_length", "another_option") for kind in ("a", "b", "c"))
    found, _ = made(confirmation(-0.1, 0.0), some, known)
    text = printed(found)
    assert text.count("\n") <= terminal.MOST and max(map(len, text.splitlines())) <= 80
    assert "35 complete" not in text and "20 complete, 16 stopped early" in text and "pruned" not in text
    shown = re.findall(r"^│ +(\d*) │ +(\d+) │", text, re.MULTILINE)
    assert "0" in [number for _, number in shown], "the baseline is always among the rows"
    assert re.search(r"\d+ more complete trials: make report", plain(text))
    assert printed(found, 140).count("\n") <= terminal.MOST


def test_a_page_fetches_nothing_and_obeys_no_name() -> None:
    content = page.render(case_of("better")).decode()
    shown = Text(content)
    assert (
        not shown.tags.keys() & {"script", "link", "iframe", "object", "form", "base", "a"} and shown.tags["svg"] >= 3
    )
    for name, value in shown.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href", "xlink:href", "srcset") or value.startswith(("data:image/png;base64,", "#"))
        assert not re.search(r"url\((?!#)", value)
    assert "default-src 'none'" in content and "@import" not in content and not re.search(r"url\((?!#)", content)
    assert NAME in "".join(shown.text), "a name is shown as it is"
    ids = [value for name, value in shown.attributes if name == "id"]
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', content)
    assert len(ids) == len(set(ids)) and {a or b for a, b in used} <= set(ids), "pictures do not share ids"
    drawn = "".join(re.findall(r"<svg.*?</svg>", content, re.DOTALL))
    assert not re.search(r"#(222222|666666|ffffff|999999)", drawn), "ink and paper are those of the page, light or dark"
    assert len(content) < 3_000_000


def test_markdown_shows_a_name_as_it_is_and_holds_to_the_length_of_a_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    undrawn(monkeypatch)
    text = markdown.render(case_of("better"))
    assert "<script" not in text and NAME in FORMS["MLflow"](case_of("better"))
    assert (
        f"({mlflow_pages.run_page('7', '1-1000')})" in text and f"/artifacts/report.html?{mlflow_pages.MODE})" in text
    )
    assert "```" not in text, "a block of code widens MLflow's page beyond its window"
    long = [trial(k, f"{LONG}{LONG}{LONG}{k}"[:300], 0.4 + k / 100) for k in range(1, 60)]
    many = tuple(verdict(f"kind{k}", *(f"option_{LONG[:80]}{i}" for i in range(9))) for k in range(12))
    found, _ = made(confirmation(-0.1, -0.05, -0.02, long=LONG * 3), many, [TRIALS[0], *long])
    text = markdown.render(found)
    assert 1000 < len(text) <= markdown.MOST and text.startswith(f"**{markdown.escaped(found.answer[0])}**")


def test_the_figures_of_a_search_are_sums_over_what_was_trained() -> None:
    pair = confirmation(0.01, -0.1)
    shown = account.figures(TRIALS, BASELINE, pair)
    assert (shown["trials/complete"], shown["trials/pruned"], shown["trials/failed"]) == (5, 1, 1)
    assert shown["search/steps"] == 4 * 100 + 40 + 10, "one that has another run's result took none"
    assert shown["search/flops"] == 450 * 2e9 and shown["search/trial_seconds"] == 6 * 3.0
    assert shown["baseline/val/loss"] == 0.5
    seeds = range(5)
    losses = [[0.5 + shift + 0.001 * ((3 * k + n) % 5) for k in seeds] for n, shift in ((0, 0.0), (2, -0.1))]
    assert shown["baseline/test/loss"] == pytest.approx(sum(losses[0]) / 5)
    assert shown["difference"] == pytest.approx(sum(b - a for a, b in zip(*losses, strict=True)) / 5)
    assert shown["difference_low"] < shown["difference"] < shown["difference_high"] < 0
    assert "difference" not in account.figures(TRIALS, BASELINE, None), "one seed shows no difference"


def test_what_failed_is_listed_with_its_reason() -> None:
    table = account.failures(TRIALS, BASELINE)
    assert table is not None
    assert table.content()[1] == [["5", "elu", "10", f"diverged: {NAME} at layer 3 (first in up.1)"]]
    assert account.outcomes(TRIALS) == ("7 trials: 5 complete, 1 stopped early, 1 failed.", "Failed: 1 diverged.")
    assert account.failures(TRIALS[:3], BASELINE) is None


def test_samples_are_of_one_seed_and_curves_of_some_trials_only() -> None:
    better, books = made(confirmation(-0.1))
    seed = confirmation(-0.1).finalists[0].typical[0]
    assert [picture.content for picture in better.samples.pictures] == [
        PNG + run.encode() for run in (f"0-{seed}", f"1-{seed}") if run in ("0-1000", "1-1000", "0-1002", "1-1002")
    ]
    alone, _ = made(None)
    assert [picture.content[8:] for picture in alone.samples.pictures] == [b"%032x" % 0, b"%032x" % 1]
    assert sorted(books.asked) == sorted(one.run_id for one in TRIALS if one.value is not None)
    _, books = made(None, records=[trial(k, f"a{k}", 0.5 + k) for k in range(90)])
    assert len(books.asked) == 40 and f"{0:032x}" in books.asked


def test_the_network_of_the_best_stands_beside_the_baselines() -> None:
    table = account.health(TRIALS, BASELINE)
    assert table is not None and table.content()[0] == ["training", "dead fraction"], "single layers are left out"
    assert table.content()[1][0] == ["trial 0, baseline", "0.125"]
    assert account.health([replace(one, metrics={}) for one in TRIALS], BASELINE) is None


def test_commands_are_those_that_were_typed() -> None:
    found, _ = made(None, tags={"typed": json.dumps(["activation=relu", "search.n_trials=4"])})
    typed = [command for command, _ in found.commands]
    assert typed[0] == 'make search ARGS="activation=relu search.n_trials=4"'
    assert "make report RUN=parent" in typed and "make reproduce RUN=1-1000" in typed
    before, _ = made(None, records=TRIALS[4:6], tags={"best": ""})
    assert [command.split()[1] for command, _ in before.commands] == ["search", "report", "ui"]


def test_a_window_of_curves_holds_the_ends_and_not_the_first_look() -> None:
    best = LearningCurve("1", "best", [(1, 100.0), (2, 2.0), (3, 1.5), (4, 1.0)])
    stopped = LearningCurve("2", "stopped", [(1, 200.0), (2, 50.0)])
    low, high = curves.window([best, stopped])
    assert low < 1.0 and 2.0 < high < 3.0
    assert curves.window([replace(best, points=best.points[:3])])[1] > 100, "of a few looks all are shown"
    assert curves.window([LearningCurve("1", "best", [(1, float("nan"))])]) == (0.0, 1.0)
    assert curves.picture([best, stopped]) == curves.picture([best, stopped])


def test_a_table_that_is_shortened_keeps_what_is_in_bold() -> None:
    found, _ = made(None)
    table = found.leaderboard.tables[0].shortened(1, "here")
    assert [row[1] for row in table.content()[1]] == ["1", "0"] and table.caption == "3 more here"
    assert found.leaderboard.tables[0].shortened(9, "here").caption is None

"""MLflow's pages of a search of many trials, in Chromium: seconds, requests and bytes until a trial stands there.

    .venv/bin/python -m benchmarks.pages [trials=500] [repeat=5]

Needs Chromium (Debian: apt-get install chromium). Writes results/pages.json.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import arguments, results
from benchmarks.results import ROOT, Row
from denoise.errors import UserError
from denoise.metrics import SAMPLES_PER_SECOND, VAL_LOSS
from search.cli.mlflow_server import free_port
from search.console import mlflow_pages
from search.tracking import saved_view
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker
from tests import chromium, devtools
from tests.devtools import Page
from tests.mlflow_server import answers
from tests.process import until
from tests.tiny import TINY

GOAL_SECONDS = 3.0
REAL = 8  # trials that are trained; the others have what is recorded of these
SEARCH = (*TINY, "data.batch_size=16", "trainer.max_steps=16", "trainer.val_every=2", f"search.n_trials={REAL}")
SORTED_BY = f"metrics.`{SAMPLES_PER_SECOND}`"
FIRST = "document.querySelector('.ag-row[row-index=\"0\"] a')?.innerText"
HEAD = f"document.querySelector('[data-testid=\"sort-header-{SAMPLES_PER_SECOND}\"]')"


DEFAULTS = {"trials": 500, "repeat": 5}
READERS = {"trials": arguments.at_least(REAL), "repeat": arguments.at_least(1)}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print the table, write results/pages.json. Exit status: 0 done, 2 a refusal."""
    typed = list(sys.argv[1:] if words is None else words)
    try:
        given = arguments.read(typed, DEFAULTS, READERS)
        if not chromium.PROGRAM:
            raise UserError(chromium.WHY_NOT)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    content = results.start(" ".join(["python -m benchmarks.pages", *typed]), "full")
    turns = measure(given["trials"], given["repeat"])
    content["raw"] = {"turns": turns}
    content["rows"] = [results.as_json(row) for row in rows(turns, given["trials"])]
    content["load"]["after"] = results.load()
    results.write(results.FOLDER / "pages.json", content)
    print(f"\n{results.markdown(content)}")
    return 0


def measure(trials: int, repeat: int) -> list[dict[str, float]]:
    """The figures of each turn, in a folder that goes at the end."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "runs"
        tracker, parent = fill(store, trials)
        print(f"{trials} trials in {store.joinpath('mlflow.db').stat().st_size / 1e6:.0f} MB", flush=True)
        with serving(store) as server:
            addresses = {"trials": mlflow_pages.view_page(tracker.experiment_id, mlflow_pages.TRIALS)}
            addresses |= {"search": mlflow_pages.run_page(tracker.experiment_id, parent)}
            turns = []
            for _ in range(repeat):
                turns.append(turn({name: f"{server}/{page}" for name, page in addresses.items()}, tracker))
                print(", ".join(f"{name} {value:.2f}" for name, value in turns[-1].items()), flush=True)
    return turns


def rows(turns: Sequence[dict[str, float]], count: int) -> list[Row]:
    """The median of each figure, with its range."""

    def row(name: str, what: str, goal: float | None = None) -> Row:
        found = [each[name] for each in turns]
        low, high = (min(found), max(found)) if len(found) > 1 else (None, None)
        return Row("pages", what, statistics.median(found), "", low, high, "<=" if goal else "", goal)

    return [
        row("cold_seconds", f"seconds until the table of {count} trials is there, in a new browser", GOAL_SECONDS),
        row("warm_seconds", "the same in one that was there before", GOAL_SECONDS),
        row("sort_seconds", "seconds until it is sorted by another column", GOAL_SECONDS),
        row("search_seconds", "seconds until the search's own page is there", GOAL_SECONDS),
        row("requests", "requests of the table's page to the server, its scripts apart"),
        row("kilobytes", "kB of their answers"),
        row("script_kilobytes", "kB of MLflow's scripts, once a browser"),
    ]


def turn(addresses: dict[str, str], tracker: Tracker) -> dict[str, float]:
    """One new browser: the table, its answers, the table again, sorted by another column; the search's page."""
    stands = f"({FIRST}) !== undefined"
    with devtools.page() as page:
        found = {"cold_seconds": page.open(addresses["trials"], stands)}
        found |= asked(page)
        found["warm_seconds"] = page.open(addresses["trials"], stands)
        ends = [name for name in (_first(tracker, way) for way in ("ASC", "DESC")) if name != page.value(FIRST)]
        page.click(HEAD)
        found["sort_seconds"] = page.until(f"{json.dumps(ends)}.includes({FIRST})")
        child = "[...document.querySelectorAll('a')].some(e => /^[0-9]{3} /.test(e.innerText))"
        found["search_seconds"] = page.open(addresses["search"], child)
    return found


def asked(page: Page) -> dict[str, float]:
    """What a page has asked the server for so far."""
    own = [each for each in page.answers.values() if each.address.startswith("http")]
    scripts = [each for each in own if "/static-files/" in each.address]
    other = [each for each in own if "/static-files/" not in each.address]
    sizes = {"kilobytes": sum(each.size for each in other), "script_kilobytes": sum(each.size for each in scripts)}
    return {"requests": float(len(other))} | {name: size / 1000 for name, size in sizes.items()}


def _first(tracker: Tracker, way: str) -> str:
    """The name of the run that is first by the column which the table is sorted by."""
    where = [tracker.experiment_id], saved_view.RIVALS
    (run,) = tracker.client.search_runs(*where, max_results=1, order_by=[f"{SORTED_BY} {way}"])
    return str(run.info.run_name)


def fill(store: Path, count: int) -> tuple[Tracker, str]:
    """Run a small search and give it as many trials as `count`, by copies of what is recorded of them; its run."""
    command = [sys.executable, "-m", "search", "search", f"store={store}", *SEARCH, "search.confirm.finalists=0"]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    tracker = Tracker(None, "denoise-search", store)
    (parent,) = [run.info.run_id for run in tracker.searches()]
    trained = tracker.find(**{Tag.PARENT: parent})
    histories = [list(_history(tracker, run)) for run in trained]
    for number in range(len(trained), count):
        copy(tracker, parent, trained[number % len(trained)], histories[number % len(trained)], number)
    return tracker, parent


def _history(tracker: Tracker, run: Any) -> Iterator[tuple[int, str, float]]:
    for key in run.data.metrics:
        yield from ((each.step, key, each.value) for each in tracker.client.get_metric_history(run.info.run_id, key))


def copy(tracker: Tracker, parent: str, run: Any, history: Sequence[tuple[int, str, float]], number: int) -> None:
    """Record a trial as the search would, with another's params, tags and metrics: a little worse, and cheaper."""
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    made = tracker.start(f"{number:03} {tags[Tag.DIFFERS]}", tags | {Tag.TRIAL: str(number)}, run.data.params, parent)
    for step, key, value in history:
        made.metrics(step, {key: value * (1 + number / 1e6 if key == VAL_LOSS else 1 - number / 1e6)})
    tracker.client.log_inputs(made.run_id, datasets=run.inputs.dataset_inputs)
    made.end(tags[Tag.OUTCOME])


@contextmanager
def serving(store: Path) -> Iterator[str]:
    """MLflow as make ui serves it; its address."""
    port, said = free_port(5100), store / "said"
    with said.open("w") as stream:
        command = [sys.executable, "-m", "search", "ui", f"store={store}", f"port={port}"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(f"{address}/health"), lambda: process.poll() is None, said)
        yield address
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    raise SystemExit(main())

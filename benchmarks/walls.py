"""Parts c and d: a whole search against a script by hand on the same trials, and the search's own overhead."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from benchmarks import floor
from benchmarks.results import ROOT, Row, ratio_row
from denoise.config.compose import compose
from search.tracking.tracker import Tracker

Say = Callable[[str], None]
TRIALS = 10
OPTIMIZERS = ("adam", "adamw", "lion", "muon", "nadam", "rmsprop")  # SGD's wide domains diverge too often
WORKERS = (2, 0)
OVERHEAD = 0.05
ALONE = "search.workers=1"


@dataclass(frozen=True)
class Size:
    """How much parts c and d measure: optimizer steps of a trial, and how many of them alone for the floor."""

    steps: int
    alone: int


SIZES = {"full": Size(300, 40), "quick": Size(60, 5)}  # 300: what a trial of the default search has


def overrides(steps: int, seed: int) -> list[str]:
    """The search that is measured: random configs, none stopped early."""
    kinds = f"search.kinds.optimizer=[{','.join(OPTIMIZERS)}]"
    budget = [f"search.n_trials={TRIALS}", f"trainer.max_steps={steps}", "search.confirm.finalists=0"]
    return ["sampler=random", "pruner=none", *budget, f"seed={seed}", "search.enqueue=[]", kinds]


def command(module: str, *given: str) -> float:
    """Run `python -m module given...` from start to exit, show the lines of its trials; the seconds it took.

    Errors: RuntimeError with the last lines of what it said, where it ends with an error.
    """
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    said: list[str] = []
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", module, *given],
            cwd=ROOT,
            env=kept | quiet,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line.rstrip())
                if line.startswith("trial "):
                    print(f"      {time.perf_counter() - began:6.1f} s  {line.rstrip()}", flush=True)
        seconds = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            last = [*said, *errors.read().splitlines()][-8:]
            raise RuntimeError(f"python -m {module} ended with {process.returncode}: " + " | ".join(last))
    return seconds


def run_ours(steps: int, seed: int, store: Path, *more: str) -> dict[str, Any]:
    """Run our search and read back what it measured of itself, and its trials."""
    wall = command("search", "search", *overrides(steps, seed), *more, f"store={store}")
    tracker = Tracker(f"sqlite:///{store / 'mlflow.db'}", compose().cfg.tracking.experiment, store)
    parent = tracker.searches()[0]
    records = sorted(tracker.records(parent.info.run_id), key=lambda record: record.number or 0)
    study = optuna.load_study(study_name=parent.info.run_name, storage=f"sqlite:///{store / 'optuna.db'}")
    loop = {name.removeprefix("search/"): value for name, value in parent.data.metrics.items() if "search/" in name}
    spans = {
        trial.number: (trial.datetime_start.timestamp(), trial.datetime_complete.timestamp())
        for trial in study.trials
        if trial.datetime_start and trial.datetime_complete
    }
    trials: list[dict[str, Any]] = []
    for record in records:
        began, ended = spans[record.number or 0]
        trials.append(
            {
                "overrides": record.overrides,
                "outcome": record.outcome,
                "failure": record.failure,
                "steps": record.step,
                "value": record.value,
                "seconds": ended - began,
                "training_seconds": record.metrics.get("cost/training_seconds"),
            }
        )
    found = {"process_seconds": wall, "loop": loop, "trials": trials}
    found["all_complete"] = all(t["outcome"] == "complete" and t["steps"] == steps for t in trials)
    if ALONE in more:
        found["breakdown"] = breakdown(wall, loop, trials, sorted(spans.values()), parent.info.end_time / 1000)
    return found


def breakdown(
    wall: float,
    loop: dict[str, float],
    trials: Sequence[dict[str, Any]],
    spans: Sequence[tuple[float, float]],
    ended: float,
) -> dict[str, float]:
    """Where a search's seconds went; all but the last add up to the whole process.

    steps: optimizer steps; evaluations: of the objective; beside_in_trials: building, tracking, samples, counting;
    between_trials; opening: of the stores; closing: leaderboard, best weights, champion; process: imports, checks,
    exit. The loop's own clock stops where the closing begins. `spans`: when each trial began and ended, in order;
    `ended`: when the search's run was closed.
    """
    steps = sum(trial["training_seconds"] or 0.0 for trial in trials)
    within = sum(end - begin for begin, end in spans)
    first, last = spans[0][0], spans[-1][1]
    closing = ended - last
    found = {
        "steps": steps,
        "evaluations": loop["training_seconds"] - steps,
        "beside_in_trials": within - loop["training_seconds"],
        "between_trials": last - first - within,
        "opening": loop["wall_seconds"] - (last - first),
        "closing": closing,
        "process": wall - loop["wall_seconds"] - closing,
    }
    return found | {"beside_per_trial": found["beside_in_trials"] / max(1, len(trials))}


def run_by_hand(configs: Path, workers: int, store: Path) -> dict[str, Any]:
    """Run the script by hand on the same trials in its own process."""
    wall = command("benchmarks.by_hand", f"configs={configs}", f"store={store}", f"workers={workers}")
    return {"process_seconds": wall, "trials": json.loads((store / "trials.json").read_text())}


def measure(size: Size, parts: Sequence[str], repeat: int, seed: int, say: Say) -> tuple[dict[str, Any], list[Row]]:
    """For part c our search and the script by hand on its trials, for part d our search in one process, in turns."""
    raw: dict[str, Any] = {"overrides": overrides(size.steps, seed), "ours": [], "alone": []}
    raw |= {f"by_hand_{workers}_workers": [] for workers in WORKERS if "c" in parts}
    raw |= {"floor": []} if "c" in parts else {}
    for turn in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            if "d" in parts:
                say(f"turn {turn + 1} of {repeat}: our search in one process, {TRIALS} trials of {size.steps} steps")
                raw["alone"].append(run_ours(size.steps, seed, place / "alone", ALONE))
                say(f"our search in one process: {raw['alone'][-1]['process_seconds']:.1f} s")
            if "c" not in parts:
                continue
            say(f"turn {turn + 1} of {repeat}: our search")
            ours = run_ours(size.steps, seed, place / "ours")
            raw["ours"].append(ours)
            say(f"our search: {ours['process_seconds']:.1f} s")
            if not ours["all_complete"]:
                say("not every trial came to its end; by hand each takes as many steps as ours did")
            trials = [{"overrides": t["overrides"], "steps": t["steps"]} for t in ours["trials"] if t["steps"]]
            (place / "configs.json").write_text(json.dumps(trials))
            for workers in WORKERS:
                say(f"turn {turn + 1} of {repeat}: the same trials by hand, {workers} loader workers")
                hand = run_by_hand(place / "configs.json", workers, place / f"by-hand-{workers}")
                raw[f"by_hand_{workers}_workers"].append(hand)
                say(f"by hand: {hand['process_seconds']:.1f} s, ours {ours['process_seconds']:.1f} s")
            say(f"turn {turn + 1} of {repeat}: the steps of the same trials and nothing else")
            raw["floor"].append(floor.seconds(place / "configs.json", size.alone))
            say(f"the steps alone: {raw['floor'][-1]:.1f} s")
    raw["all_complete"] = all(run["all_complete"] for run in (*raw["ours"], *raw["alone"]))
    rows = [row for part, make in (("c", rows_c), ("d", rows_d)) if part in parts for row in make(raw)]
    return raw, rows


def rows_c(raw: dict[str, Any]) -> list[Row]:
    """The wall time of ours over that of the script by hand, from start to exit, on equal steps; and the floor's."""
    rows = []
    for workers in WORKERS:
        script = f"the script by hand, {workers or 'no'} loader workers"
        by_hand = raw[f"by_hand_{workers}_workers"]
        ratios = [
            (ours["process_seconds"] / sum(t["steps"] for t in ours["trials"]))
            / (hand["process_seconds"] / sum(t["steps"] for t in hand["trials"]))
            for ours, hand in zip(raw["ours"], by_hand, strict=True)
        ]
        rows.append(ratio_row("c", f"our search / {script}", ratios, "<=", 0.6))
        floors = [least / hand["process_seconds"] for least, hand in zip(raw["floor"], by_hand, strict=True)]
        rows.append(ratio_row("c", f"its steps and nothing else / {script}", floors))
    return rows


def rows_d(raw: dict[str, Any]) -> list[Row]:
    """The share of the search's wall time that is neither optimizer steps nor evaluations of the objective."""
    loop = [
        1 - run["loop"]["training_seconds"] / (run["loop"]["wall_seconds"] + run["breakdown"]["closing"])
        for run in raw["alone"]
    ]
    process = [1 - run["loop"]["training_seconds"] / run["process_seconds"] for run in raw["alone"]]
    rows = []
    for what, values, goal in (("of the search's loop", loop, OVERHEAD), ("of the whole process", process, None)):
        row = ratio_row("d", f"overhead {what}", values, "<=" if goal else "", goal)
        rows.append(Row("d", row.what, row.value, "%", row.low, row.high, row.relation, goal))
    return rows

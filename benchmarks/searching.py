"""What searching itself costs: a search's own loop around trainings that take no time, in studies of growing size.

    .venv/bin/python -m benchmarks.searching [trials=100,1000,10000] [repeat=15] [peer=true] [markdown=true]

The study is filled with plausible finished trials of the real space of `make search`; then `repeat` more trials run
through search/study/loop.py's loop, with MLflow and the study on SQLite, the training alone replaced. `peer=true` times
plain Optuna beside it, which does less: ask, as many suggestions, tell, with its TPE on SQLite.
"""

import json
import statistics
import sys
import tempfile
import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from benchmarks import arguments, results
from benchmarks.filling import Random, add, fill
from denoise.errors import UserError
from denoise.pictures.grid import grid_png
from denoise.training import train
from search.pruners import decision
from search.samplers.seeded import SeededSampler
from search.storages.trials import Trials
from search.study import loop, objective
from search.study.session import Session

GOAL_MILLISECONDS, GOAL_LOADING = 150.0, 12.0
PICTURE = grid_png(torch.zeros(1, 1, 1, 1))
PARTS = ("draw", "insert", "compose", "report", "tracker", "tell", "other")
WATCHED: dict[str, list[tuple[Any, str]]] = {  # part -> what is timed; of calls within each other the outermost counts
    "draw": [(SeededSampler, "draw")],
    "insert": [(Trials, "insert")],
    "compose": [(objective, "next_compose")],
    "report": [(decision, "should_stop")],
    "tell": [(Trials, "end"), (Trials, "note")],
}
TRACKER = ("create_run", "log_batch", "log_artifacts", "set_terminated", "search_runs", "get_run", "update_run")


def counts(value: str) -> tuple[int, ...]:
    """Read numbers of trials, with commas between them. Errors: ValueError."""
    if not all(word.isdecimal() and int(word) > 0 for word in value.split(",")):
        raise ValueError("must be whole numbers of 1 or more, with commas between them")
    return tuple(sorted({int(word) for word in value.split(",")}))


YES = arguments.one_of("true", "false")
READERS = {"trials": counts, "repeat": arguments.at_least(3), "peer": YES, "markdown": YES}
DEFAULTS: dict[str, Any] = {"trials": (100, 1000, 10000), "repeat": 15, "peer": "false", "markdown": "false"}


class Clock:
    """Seconds by part; a call within a timed call counts for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside = False

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            if self.inside:
                return call(*args, **more)
            self.inside, began = True, time.perf_counter()
            try:
                return call(*args, **more)
            finally:
                self.inside = False
                self.seconds[part] += time.perf_counter() - began

        return run


def no_training(cfg: Any, module: Any, observer: Any, *args: Any) -> Any:
    """Stand in for denoise.training.train.fit: the metrics and evaluations of a training, at once."""
    level = 0.2 + 0.0005 * (zlib.crc32(str(cfg.optimizer).encode()) % 100)
    metrics: dict[str, float] = {}
    last, every = cfg.trainer.max_steps, cfg.trainer.val_every
    outcome, reached = "complete", last
    for step in range(every, last + 1, every):
        value = level + step**-0.5
        metrics = {"val/loss": value, "train/loss": value} | {f"val/loss_band_{k}": value for k in range(8)}
        observer.on_metrics(step, metrics)
        if observer.on_objective(step, value):
            outcome, reached = "stopped", step
            break
    observer.on_metrics(reached, {f"health/layer_{k}/rms": 1.0 for k in range(50)})
    return train.Result(outcome, reached, metrics, {}, "0" * 64, samples=PICTURE, health=b"<svg/>")


@contextmanager
def watched(clock: Clock, tracker: Any) -> Iterator[None]:
    """Time the parts of the loop, with no training."""
    patches: list[Any] = [patch.object(train, "fit", no_training), patch.object(train, "prepare", lambda cfg: None)]
    patches += [patch.object(train, "counted", lambda cfg, module: {}), patch.object(objective, "_keep")]
    for part, places in WATCHED.items():
        patches += [patch.object(at, name, clock.timed(part, getattr(at, name))) for at, name in places]
    client = tracker.client
    patches += [patch.object(client, name, clock.timed("tracker", getattr(client, name))) for name in TRACKER]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


class Silent:
    """A display of nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **more: None


def ours(count: int, repeat: int, store: Path) -> dict[str, Any]:
    """Milliseconds of each of `repeat` trials in a study of `count`, by part; seconds to load it."""
    prepared = loop.prepare([f"store={store}", f"search.n_trials={count + repeat + 2}", "trainer.num_threads=1"])
    study, tracker = loop.open_stores(prepared)
    fill(study.storage, study.study_name, prepared.space, count)  # type: ignore[arg-type]
    parent = loop.open_parent(tracker, prepared)
    loading = []
    for _ in range(3):
        began = time.perf_counter()
        study = loop.open_study(prepared)
        study.get_trials(deepcopy=False)
        loading.append(time.perf_counter() - began)
    rows, clock = [], Clock()
    session = Session(prepared, study, tracker, parent, Silent())  # type: ignore[arg-type]
    with watched(clock, tracker):
        for k in range(repeat + 2):
            clock.seconds.clear()
            began, worked = time.perf_counter(), time.process_time()
            loop.next_trial(session)
            whole, cpu = 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - worked)
            row = {part: 1000 * seconds for part, seconds in clock.seconds.items()}
            if k >= 2:  # the first ones warm up
                rows.append(row | {"other": whole - sum(row.values()), "whole": whole, "cpu": cpu})
    parameters = statistics.mean(len(trial.params) for trial in study.get_trials(deepcopy=False)[-repeat:])
    return {"loading_seconds": loading, "trials": rows, "parameters": parameters}


def plain(count: int, repeat: int, parameters: int, folder: Path) -> dict[str, Any]:
    """Plain Optuna with as many parameters, seven of them choices: milliseconds of ask, suggestions and tell."""
    folder.mkdir(parents=True)
    url = f"sqlite:///{(folder / 'plain.db').resolve()}"
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(storage=storage, study_name="plain", sampler=optuna.samplers.TPESampler(seed=0))

    def draw(trial: Any) -> None:
        for k in range(7):
            trial.suggest_categorical(f"c{k}", [f"o{n}" for n in range(16)])
        for k in range(parameters - 7):
            trial.suggest_float(f"x{k}", 1e-5, 1.0, log=True)

    trials = []
    for number in range(count):
        like = Random(np.random.default_rng(number))
        for k in range(7):
            like(f"c{k}", CategoricalDistribution([f"o{n}" for n in range(16)]))
        for k in range(parameters - 7):
            like(f"x{k}", FloatDistribution(1e-5, 1.0, log=True))
        value = float(like.generator.random())
        trials.append(create_trial(params=like.params, distributions=like.distributions, value=value))
    add(storage, "plain", trials)
    loading, rows = [], []
    for _ in range(3):
        began = time.perf_counter()
        study = optuna.load_study(storage=url, study_name="plain", sampler=optuna.samplers.TPESampler(seed=0))
        study.get_trials(deepcopy=False)
        loading.append(time.perf_counter() - began)
    for _ in range(repeat + 2):
        began, worked = time.perf_counter(), time.process_time()
        trial = study.ask()
        draw(trial)
        study.tell(trial, 0.5)
        times = 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - worked)
        rows.append(dict(zip(("whole", "cpu"), times, strict=True)))
    return {"loading_seconds": loading, "trials": rows[2:], "parameters": parameters}


def middle(found: dict[str, Any], part: str) -> float:
    """The median over the trials."""
    return statistics.median(row.get(part, 0.0) for row in found["trials"])


def rows(raw: dict[str, Any]) -> list[results.Row]:
    """The figures with goals: milliseconds a trial and seconds to load, at the largest study."""
    made = []
    for count, found in raw["ours"].items():
        times = [row["whole"] for row in found["trials"]]
        goal = {"relation": "<=", "goal": GOAL_MILLISECONDS} if int(count) >= 10000 else {}
        what = f"a trial's cost in a study of {count}"
        made.append(results.Row("trial", what, middle(found, "whole"), "ms", min(times), max(times), **goal))  # type: ignore[arg-type]
        loading = found["loading_seconds"]
        goal = {"relation": "<=", "goal": GOAL_LOADING} if int(count) >= 10000 else {}
        what = f"loading a study of {count}, seconds"
        made.append(results.Row("load", what, statistics.median(loading), "", min(loading), max(loading), **goal))  # type: ignore[arg-type]
    return made


def markdown(content: dict[str, Any]) -> str:
    """The table of benchmarks/README.md."""
    head = ["trials in the study", *PARTS, "whole", "of it CPU", "loading", "plain Optuna", "its loading"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for count, found in content["raw"]["ours"].items():
        peer = content["raw"]["plain"].get(count)
        cells = [f"{middle(found, part):.0f}" for part in (*PARTS, "whole", "cpu")]
        cells.append(f"{statistics.median(found['loading_seconds']):.2f} s")
        cells += [f"{middle(peer, 'whole'):.0f}", f"{statistics.median(peer['loading_seconds']):.2f} s"] if peer else []
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print the table, write results/searching.json. Exit status: 0 done, 2 a refusal."""
    warnings.filterwarnings("ignore")
    try:
        given = arguments.read(sys.argv[1:] if words is None else words, DEFAULTS, READERS)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    path = results.FOLDER / "searching.json"
    if given["markdown"] == "true":
        print(markdown(json.loads(path.read_text(encoding="utf-8"))))
        return 0
    content = results.start("python -m benchmarks.searching", "full")
    content["raw"] = {"ours": {}, "plain": {}}
    with tempfile.TemporaryDirectory() as folder:
        for count in given["trials"]:
            found = ours(count, given["repeat"], Path(folder) / str(count))
            content["raw"]["ours"][str(count)] = found
            if given["peer"] == "true":
                number = max(8, round(found["parameters"]))
                content["raw"]["plain"][str(count)] = plain(count, given["repeat"], number, Path(folder) / f"p{count}")
            print(markdown(content).splitlines()[-1], flush=True)
    content["rows"] = [results.as_json(row) for row in rows(content["raw"])]
    content["load"]["after"] = results.load()
    results.write(path, content)
    print(f"\n{markdown(content)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

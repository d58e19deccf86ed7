"""Several searchers at a time, replayed on the table: how long until a config of the best 1 %, how long they wait.

    python -m experiments.search_evidence.beside [repeats=200] [divisions=1x1,2x2,2x4,2x6,4x12] [truth=unseen|mean]

A division is searchers x lag. Time is in whole trainings of one searcher, first as if a step took as long beside others
as alone, then with the slowdown that bench.json has measured: of two searchers, in the place of one with all threads.
What more searchers do to each other was not measured. Trials are drawn and stopped as search/study/loop.py does it: one
is begun when all those are over that were begun `lag` before it, and at each look it waits for those before it that
still run.
"""

import json
import math
import sys
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arguments, results
from denoise.errors import UserError
from experiments.search_evidence import table
from experiments.search_evidence.parallel import each
from experiments.search_evidence.pool import Pool, build, read
from experiments.search_evidence.replay import PERCENTS, drawn, interval, places, resample
from experiments.search_evidence.strategies import STRATEGIES, groups_of

DEFAULT = "1x1,1x6,2x2,2x3,2x4,2x6,2x8,4x4,4x8,4x12,4x16"
FOUND = ("time", "compute", "trials", "waited")


def slowdown(path: Path = results.FOLDER / "bench.json") -> float:
    """Seconds of training of ten trials, two at a time, by those of the same trials one by one with all threads."""
    raw = json.loads(path.read_text())["raw"]["cd"]
    seconds = {
        name: sum(trial["training_seconds"] for one in raw[name] for trial in one["trials"]) / len(raw[name])
        for name in ("ours", "alone")
    }
    return float(seconds["ours"] / seconds["alone"])


def search(
    pool: Pool, groups: dict[str, Any], searchers: int, lag: int, number: int, truth: str = "unseen"
) -> list[float]:
    """One search until a config of the best 1 % is complete: FOUND, time and compute in whole trainings."""
    among = drawn(pool, number)
    place = places(among, pool.truth if truth == "mean" else pool.unseen(number % 2), ())
    good = set(np.flatnonzero(place < max(1, round(int(among.sum()) * PERCENTS[0] / 100))))
    strategy = STRATEGIES["funnel"]
    sampler = strategy.sampler(groups, np.random.default_rng([number, 1]))
    rungs = pool.curves.shape[2]
    free_at = [0.0] * searchers
    over = [0.0]  # when all of the first so many trials were over
    passed = np.zeros(rungs)  # when all trials so far had passed a rung or were over
    values: list[list[float]] = [[] for _ in range(rungs)]
    told: list[tuple[int, int, int, float, bool]] = []
    compute = waited = now = 0.0
    while among.any():
        trial = len(told)
        if trial >= lag:
            sampler.tell(*told[trial - lag])
        row = sampler.ask(np.flatnonzero(among))
        among[row] = False
        searcher = int(np.argmin(free_at))
        now = max(free_at[searcher], over[max(0, trial - lag + 1)])
        waited += now - free_at[searcher]
        curve, reports, complete, failed = pool.curves[number % 2, row], [], False, False
        for rung, value in enumerate(map(float, curve)):
            now, compute = now + 1, compute + 1
            failed = math.isnan(value)
            if failed:
                break
            reports.append(now)
            waited += max(0.0, passed[rung] - now)
            now = max(now, passed[rung])
            allowed = math.ceil((1 + len(values[0])) * strategy.share / (rung + 1) - 1e-9)
            complete = rung + 1 == rungs
            if not complete and bisect_left(values[rung], value) >= max(1, allowed):
                break
        for rung in range(len(reports)):
            insort(values[rung], float(curve[rung]))
        passed = np.maximum(passed, [*reports, *[now] * (rungs - len(reports))])
        last = (0, math.inf) if failed else (len(reports) * pool.every, float(curve[len(reports) - 1]))
        told.append((trial, row, *last, complete))
        free_at[searcher] = now
        over.append(max(over[-1], now))
        if complete and row in good:
            break
    return [now / rungs, compute / rungs, len(told), waited / rungs]


def divided(value: str) -> list[tuple[int, int]]:
    """Read searchers x lag, with commas between them. Errors: ValueError."""
    found = [word.split("x") for word in value.split(",")]
    if not all(len(pair) == 2 and all(text.isdecimal() and int(text) > 0 for text in pair) for pair in found):
        raise ValueError("must be searchers x lag, such as 2x6,4x12")
    return [(int(searchers), int(lag)) for searchers, lag in found]


def markdown(found: Mapping[tuple[int, int], np.ndarray], factor: float) -> str:
    """The table for experiments/README.md; the time by one searcher's is that of the first division, which has one."""
    heads = ["searchers", "lag", "time", "standard error", f"with the slowdown of {factor:.2f}", "by one searcher's"]
    heads += ["compute", "trials", "waited, of the time"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    alone = next(iter(found.values()))[:, 0]
    for (searchers, lag), rows in found.items():
        mean, sem = dict(zip(FOUND, rows.mean(axis=0), strict=True)), rows[:, 0].std() / len(rows) ** 0.5
        cells = [str(searchers), str(lag), f"{mean['time']:.1f}", f"{sem:.1f}"]
        slow = {1: 1.0, 2: factor}.get(searchers)
        if slow is None:
            cells += ["not measured"] * 2
        else:
            low, high = interval(slow * resample(rows[:, 0]) / resample(alone))
            cells += [
                f"{slow * mean['time']:.1f}",
                f"{slow * mean['time'] / alone.mean():.2f} ({low:.2f} to {high:.2f})",
            ]
        share = mean["waited"] / (mean["time"] * searchers)
        cells += [f"{mean['compute']:.1f}", f"{mean['trials']:.0f}", f"{share:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    """Search and print a table. Exit status: 0 done, 2 a refusal."""
    try:
        readers: dict[str, Any] = {"repeats": arguments.at_least(2), "divisions": divided, "table": str}
        readers["truth"] = arguments.one_of("unseen", "mean")
        defaults = {"repeats": 200, "divisions": divided(DEFAULT), "table": str(table.TABLE), "truth": "unseen"}
        options = arguments.read(sys.argv[1:] if given is None else given, defaults, readers)
        pool = build(*read(Path(options["table"])))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    divisions = options["divisions"]
    groups = groups_of(pool)

    def work(name: str) -> np.ndarray:
        searchers, lag = map(int, name.split("x"))
        rows = [search(pool, groups, searchers, lag, i, options["truth"]) for i in range(options["repeats"])]
        return np.array(rows)

    found = each(work, [f"{searchers}x{lag}" for searchers, lag in divisions])
    print(markdown(dict(zip(divisions, found.values(), strict=True)), slowdown()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Search strategies replayed on the table of real trainings: what each spends until it has a config of the best 1 %.

    python -m experiments.search_evidence.replay [repeats=300] [truth=unseen|mean] [strategies=...] [rows=all|even|odd]
    python -m experiments.search_evidence.replay surrogate=true [repeats=40] [truth=unseen|mean] [strategies=...]

A repeat searches four fifths of the configs, drawn at random, each at most once, and sees one seed's values. True is
the end with the other seed: the mean of both holds the luck of the one that was seen, and calls a search better than
it is. Compute is counted in whole trainings. With surrogate=true Optuna's own samplers and pruners search a model of
the table instead.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arguments, results
from denoise.errors import UserError
from experiments import tables
from experiments.search_evidence import picture, starts, surrogate, table
from experiments.search_evidence.parallel import each
from experiments.search_evidence.pool import Pool, build, read, with_starts
from experiments.search_evidence.strategies import REFERENCE, STOCK, STRATEGIES, Strategy, groups_of, search

SUMMARY = tables.FOLDER / "replay.jsonl"
PICTURE = tables.ROOT / "docs" / "evidence.svg"
DEFAULTS = {"repeats": 300, "truth": "unseen", "strategies": tuple(STRATEGIES), "rows": "all", "table": ""}
DEFAULTS |= {"surrogate": "false"}
PERCENTS, BUDGETS, SHARE, RESAMPLES = (1, 5), (4, 8, 16, 32, 64), 0.8, 4000
GRID = np.geomspace(1, 64, 61)  # trainings, for the picture


@dataclass(frozen=True)
class Outcome:
    """The searches of one strategy. reached: percent -> trainings spent until a config of the best percent was trained
    to the end, inf where none ever was; place: (repeats, compute) the incumbent's true place among the configs, in per
    cent, 100 where nothing is complete yet; trials: how many a search had until the best 1 %.
    """

    reached: dict[int, np.ndarray]
    places: np.ndarray
    on_grid: np.ndarray
    trials: np.ndarray
    configs: int


def drawn(pool: Pool, number: int) -> np.ndarray:
    """Which of the table's rows are there in a repeat: four fifths, the same for every strategy."""
    count = len(pool) - len(pool.starts)
    among = np.zeros(len(pool), dtype=bool)
    among[np.random.default_rng([number, 0]).permutation(count)[: round(count * SHARE)]] = True
    return among


def places(among: np.ndarray, true: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    """Each row's place among the rows that are there, 0 the best; their number for a row that is not.

    A known start takes no place: its own is how many of those rows are better than it.
    """
    size = int(among.sum())
    place = np.full(len(among), size)
    place[np.flatnonzero(among)[np.argsort(true[among], kind="stable")]] = np.arange(size)
    place[list(starts)] = np.searchsorted(np.sort(true[among]), true[list(starts)])
    return place


def repeat(
    pool: Pool, strategy: Strategy, groups: Mapping[str, Any], number: int, truth: str = "unseen"
) -> tuple[Any, ...]:
    """One search: trainings until the best percents, the incumbent's place at BUDGETS and on GRID, trials."""
    among, view = drawn(pool, number), number % 2
    size = int(among.sum())
    place = places(among, pool.truth if truth == "mean" else pool.unseen(view), pool.starts)
    may = among & (pool.draws != 0) if pool.starts else among  # draw 0 is the baseline, the first of the starts
    limits = {percent: max(1, round(size * percent / 100)) for percent in PERCENTS}
    last, hit = max(BUDGETS[-1], GRID[-1]) * pool.steps, [False]

    def enough(row: int, cost: int) -> bool:
        hit[0] = hit[0] or (row >= 0 and place[row] < limits[PERCENTS[0]])
        return hit[0] and cost >= last

    rng = np.random.default_rng([number, 1])
    done = search(pool, strategy, dict(groups), rng, view, may, enough, str(number))
    complete = np.flatnonzero(done.complete)
    reached = []
    for limit in limits.values():
        good = complete[place[done.rows[complete]] < limit]
        reached.append(done.cost[good[0]] / pool.steps if len(good) else np.inf)
    first = int(np.searchsorted(done.cost, reached[0] * pool.steps)) + 1
    values, reaches = done.values[complete], place[done.rows[complete]]
    incumbents = reaches[[int(np.argmin(values[: i + 1])) for i in range(len(values))]] if len(values) else reaches
    shown = np.concatenate([[100.0], (incumbents + 1) / size * 100])
    spent = done.cost[complete]
    at = [shown[np.searchsorted(spent, np.asarray(x) * pool.steps, side="right")] for x in (BUDGETS, GRID)]
    return reached, at[0], at[1], min(first, len(done.rows)), size


def replay(pool: Pool, strategy: Strategy, groups: Mapping[str, Any], repeats: int, truth: str = "unseen") -> Outcome:
    """Search `repeats` times."""
    found = [repeat(pool, strategy, groups, number, truth) for number in range(repeats)]
    reached, at_budgets, grid, trials, sizes = zip(*found, strict=True)
    by_percent = {percent: np.array([one[i] for one in reached]) for i, percent in enumerate(PERCENTS)}
    return Outcome(by_percent, np.array(at_budgets), np.array(grid), np.array(trials), sizes[0])


def resample(values: np.ndarray) -> np.ndarray:
    """Means of RESAMPLES bootstrap samples of the repeats, the same ones for every strategy; (RESAMPLES, ...)."""
    chosen = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    counts = np.apply_along_axis(np.bincount, 1, chosen, minlength=len(values))
    return counts @ values / len(values)


def interval(means: np.ndarray) -> list[float]:
    """The middle 95 %."""
    return [float(edge) for edge in np.quantile(means, [0.025, 0.975])]


def summarize(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """For each strategy the means over repeats with bootstrap intervals, and the ratios to REFERENCE's and STOCK's.

    A search that never reaches the best configs counts as if it had trained all of them. Places are geometric means:
    a config that diverges with the other seed is in the last place.
    """
    found: dict[str, Any] = {}
    spent = {
        name: {percent: np.where(np.isinf(x), outcome.configs, x) for percent, x in outcome.reached.items()}
        for name, outcome in outcomes.items()
    }
    for name, outcome in outcomes.items():
        entry: dict[str, Any] = {"says": STRATEGIES[name].says, "trials": float(outcome.trials.mean())}
        for percent, values in spent[name].items():
            means = resample(values)
            one = {"mean": float(values.mean()), "interval_95": interval(means), "median": float(np.median(values))}
            one["never"] = int(np.isinf(outcome.reached[percent]).sum())
            for key, name_of in (("ratio", REFERENCE), ("ratio_stock", STOCK)):
                if name_of in spent:
                    other = spent[name_of][percent]
                    one[key] = float(values.mean() / other.mean())
                    one[f"{key}_interval_95"] = interval(means / resample(other))
            entry[f"best_{percent}"] = one
        for i, budget in enumerate(BUDGETS):
            logs = np.log(outcome.places[:, i])
            one = {"mean": float(np.exp(logs.mean())), "interval_95": interval(np.exp(resample(logs)))}
            entry[f"place_after_{budget}"] = one
        logs = np.log(outcome.on_grid)
        low, high = np.exp(np.quantile(resample(logs), [0.025, 0.975], axis=0))
        entry["curve"] = {"mean": np.exp(logs.mean(axis=0)).round(3).tolist()}
        entry["curve"] |= {"low": low.round(3).tolist(), "high": high.round(3).tolist()}
        found[name] = entry
    return found


def markdown(content: Mapping[str, Any]) -> str:
    """The table for experiments/README.md."""

    def span(one: Mapping[str, Any], key: str, digits: int) -> str:
        if key not in one:
            return ""
        edges = one["interval_95" if key == "mean" else f"{key}_interval_95"]
        return f"{one[key]:.{digits}f} ({edges[0]:.{digits}f} to {edges[1]:.{digits}f})"

    said = f"`{content['command']}`, {content['date'][:10]}, commit {content['commit'] or 'unknown'}: "
    said += f"{content['configs']} configs of {content['steps']} steps, {content['repeats']} searches a strategy, "
    said += f"truth={content['truth']}."
    heads = ["strategy", "best 1 %", f"by {REFERENCE}'s", f"by {STOCK}'s", "best 5 %", f"by {REFERENCE}'s", "trials"]
    heads += [f"place after {budget}" for budget in BUDGETS]
    lines = [said, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, one in content["strategies"].items():
        cells = [f"`{name}` {one['says']}"]
        for percent in PERCENTS:
            best = one[f"best_{percent}"]
            never = f"; {best['never']} never" if best["never"] else ""
            cells += [span(best, "mean", 1) + never, span(best, "ratio", 2)]
            cells += [span(best, "ratio_stock", 2)] if percent == PERCENTS[0] else []
        cells.append(f"{one['trials']:.0f}")
        cells += [f"{one[f'place_after_{budget}']['mean']:.1f} %" for budget in BUDGETS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def options(given: Sequence[str]) -> Any:
    """Read the command's arguments. Errors: UserError."""
    readers: dict[str, Any] = {"repeats": arguments.at_least(2), "strategies": arguments.some_of(*STRATEGIES)}
    readers |= {"rows": arguments.one_of("all", "even", "odd"), "truth": arguments.one_of("unseen", "mean")}
    readers |= {"table": str, "surrogate": arguments.one_of("true", "false")}
    found = arguments.read(given, DEFAULTS, readers)
    if found["surrogate"] == "true":
        for key, value in (("repeats", surrogate.REPEATS), ("strategies", surrogate.CHOSEN)):
            if not any(text.startswith(f"{key}=") for text in given):
                found[key] = value
    return found


def command(words: Sequence[str]) -> str:
    """What was typed, without where a table lies."""
    named = [f"table={Path(word.partition('=')[2]).name}" if word.startswith("table=") else word for word in words]
    return " ".join(["python -m experiments.search_evidence.replay", *named])


def main(given: Sequence[str] | None = None) -> int:
    """Replay, write the results and print the table. Exit status: 0 done, 2 a refusal, 130 interrupted."""
    words = list(sys.argv[1:] if given is None else given)
    try:
        chosen = options(words)
        path = Path(chosen["table"]) if chosen["table"] else table.TABLE
        trained, described = read(path)
        pool = build(trained, described)
        if chosen["rows"] != "all":
            pool = pool.take(np.flatnonzero(pool.draws % 2 == (chosen["rows"] == "odd")))
        if chosen["surrogate"] == "true":
            asked = (chosen["repeats"], chosen["strategies"], chosen["truth"], command(words))
            return surrogate.main(pool, *asked)
        pools = {False: pool}
        if any(STRATEGIES[name].starts for name in chosen["strategies"]):
            pools[True] = with_starts(pool, starts.pool(described))
        groups = {whether: groups_of(one) for whether, one in pools.items()}

        def work(name: str) -> Outcome:
            strategy = STRATEGIES[name]
            which = strategy.starts
            return replay(pools[which], strategy, groups[which], chosen["repeats"], chosen["truth"])

        outcomes = each(work, chosen["strategies"])
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    content: dict[str, Any] = {
        "command": command(words),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": results.commit(),
        "configs": len(pool),
        "steps": pool.steps,
        "repeats": chosen["repeats"],
        "truth": chosen["truth"],
        "trainings": GRID.round(3).tolist(),
        "strategies": summarize(outcomes),
    }
    head = {key: value for key, value in content.items() if key != "strategies"}
    tables.write(SUMMARY, head, tables.named(content["strategies"], "strategy"))
    PICTURE.write_bytes(picture.places(content))
    print(markdown(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())

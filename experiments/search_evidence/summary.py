"""What the table of real trainings says by itself, as markdown.

    python -m experiments.search_evidence.summary [table=FILE]

How early the order of the configs shows, how far a seed and a narrower model agree, what fails, which kinds matter.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from benchmarks import arguments
from denoise.errors import UserError
from experiments.search_evidence import table
from experiments.search_evidence.pool import Pool, build, read

RESAMPLES = 2000
DEFAULTS = {"table": ""}


def correlation(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Spearman's rank correlation of two columns and its 95 % interval, a bootstrap over configs."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, len(first), len(first))
        found.append(np.corrcoef(rankdata(first[chosen]), rankdata(second[chosen]))[0, 1])
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(spearmanr(first, second).statistic), float(low), float(high)


def explained(values: np.ndarray, options: np.ndarray) -> float:
    """epsilon^2 = (SS_between - (k - 1) MS_within) / SS_total: what k options explain, chance taken off."""
    total = ((values - values.mean()) ** 2).sum()
    within, used = 0.0, 0
    for option in np.unique(options):
        some = values[options == option]
        within += ((some - some.mean()) ** 2).sum()
        used += 1
    free = len(values) - used
    return float((total - within - (used - 1) * within / free) / total) if free > 0 and total > 0 else float("nan")


def agreement(pool: Pool, found: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[float, float, float], int]]:
    """What is compared, its correlation, and over how many configs."""
    sound = np.flatnonzero(~np.isnan(pool.curves).any(axis=(0, 2)))
    curves = pool.curves[:, sound]
    rows = []
    for rung in range(pool.rungs - 1):
        both = [correlation(curves[seed, :, rung], curves[seed, :, -1]) for seed in (0, 1)]
        middle = tuple(float(value) for value in np.mean(both, axis=0))
        rows.append((f"step {(rung + 1) * pool.every} and the end", middle, len(sound)))
    rows.append(("seed 0 and seed 1, at the end", correlation(curves[0, :, -1], curves[1, :, -1]), len(sound)))
    widths = sorted({one["width"] for one in found})
    if len(widths) > 1:
        ends = [
            {one["draw"]: one["curve"][-1] for one in found if one["width"] == width and ended(one)}
            for width in (widths[0], widths[-1])
        ]
        shared = sorted(ends[0].keys() & ends[1].keys())
        if len(shared) > 2:
            narrow, wide = (np.array([end[draw] for draw in shared]) for end in ends)
            said = f"width {widths[0]} and width {widths[-1]}, at the end"
            rows.append((said, correlation(narrow, wide), len(shared)))
    return rows  # type: ignore[return-value]


def ended(one: Mapping[str, Any]) -> bool:
    """Whether a training with seed 0 came to its end."""
    return bool(one["outcome"] == "complete" and one["seed"] == 0)


def failures(found: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> list[tuple[str, int, int]]:
    """The options with failed trainings: kind=option, failed, all; the largest share first."""
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for one in found:
        for kind in kinds:
            option = f"{kind}={one['params'][kind]}"
            tried[option] += 1
            failed[option] += one["outcome"] != "complete"
    rows = [(option, failed[option], tried[option]) for option in tried if failed[option]]
    return sorted(rows, key=lambda row: (-row[1] / row[2], row[0]))


def markdown(pool: Pool, found: Sequence[Mapping[str, Any]]) -> str:
    """The whole summary."""
    lines = ["| compared | rank correlation | configs |", "|---|---|---|"]
    for said, (value, low, high), count in agreement(pool, found):
        lines.append(f"| {said} | {value:.3f} ({low:.3f} to {high:.3f}) | {count} |")
    lines += ["", "| kind | variance of the objective at the end that its options explain |", "|---|---|"]
    sound = np.isfinite(pool.truth)
    shares = {kind: explained(pool.truth[sound], pool.columns[kind][sound]) for kind in pool.kinds}
    for kind, share in sorted(shares.items(), key=lambda item: -item[1]):
        lines.append(f"| {kind} | {share:.1%} |")
    bad = Counter(one["outcome"] for one in found if one["outcome"] != "complete")
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(bad.items())) or "none"
    lines += ["", f"Failed trainings: {sum(bad.values())} of {len(found)} ({said}).", ""]
    lines += ["| option | failed | of |", "|---|---|---|"]
    for option, count, tried in failures(found, pool.kinds)[:20]:
        lines.append(f"| {option} | {count} ({count / tried:.0%}) | {tried} |")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    """Print the summary. Exit status: 0 done, 2 a refusal."""
    try:
        chosen = arguments.read(list(sys.argv[1:] if given is None else given), DEFAULTS, {"table": str})
        found, described = read(Path(chosen["table"]) if chosen["table"] else table.TABLE)
        print(markdown(build(found, described), found))
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

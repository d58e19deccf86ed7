"""What the table of trainings says of each option, for the pages of the kinds.

    python -m experiments.search_evidence.options [table=FILE]

Writes experiments/summary.jsonl. An option's place is where configs that have it end among all, 0 the best and 1 the
worst, what the other kinds' choices do to them taken out: least squares over the options of all kinds at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import arguments, results
from denoise.errors import UserError
from experiments import tables
from experiments.search_evidence import table
from experiments.search_evidence.pool import Pool, build, read
from experiments.search_evidence.summary import DEFAULTS

LEVEL = 0.95


def places(pool: Pool) -> np.ndarray:
    """Where each config ends, (0, 1): the mid-rank of its objective over both seeds; failed ones share the last."""
    return np.asarray((stats.rankdata(pool.truth) - 0.5) / len(pool))


def effects(pool: Pool) -> dict[str, list[dict[str, Any]]]:
    """For each kind its options, best first: configs, failed ones, place, its interval, configs in the best tenth."""
    place = places(pool)
    columns = {kind: pool.columns[kind].astype(int) for kind in pool.kinds}
    used = {kind: sorted(set(values.tolist())) for kind, values in columns.items()}
    centred = []
    for kind in pool.kinds:  # an indicator an option, less its share: an effect is then against the mean of the kind
        indicators = np.stack([columns[kind] == option for option in used[kind]], axis=1).astype(float)
        centred.append(indicators - indicators.mean(axis=0))
    design = np.concatenate([np.ones((len(pool), 1)), *centred], axis=1)
    inverse = np.linalg.pinv(design.T @ design, hermitian=True)
    effect = inverse @ design.T @ place
    free = len(pool) - np.linalg.matrix_rank(design)
    spread = np.sqrt(((place - design @ effect) ** 2).sum() / free)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, free))
    found: dict[str, list[dict[str, Any]]] = {}
    start = 1
    for kind in pool.kinds:
        rows = []
        names = pool.domains[kind].choices  # type: ignore[attr-defined]
        shares = np.array([(columns[kind] == option).mean() for option in used[kind]])
        for i, option in enumerate(used[kind]):
            chosen = columns[kind] == option
            weights = np.zeros(design.shape[1])  # of the effects: this option's, less the kind's mean
            weights[start : start + len(shares)] = -shares
            weights[start + i] += 1
            middle = float(effect[0] + weights @ effect)
            error = float(spread * np.sqrt(weights @ inverse @ weights + inverse[0, 0]))
            rows.append(
                {
                    "option": names[option],
                    "configs": int(chosen.sum()),
                    "failed": int(np.isinf(pool.truth[chosen]).sum()),
                    "place": middle,
                    "interval_95": [middle - reach * error, middle + reach * error],
                    "best_tenth": int((place[chosen] < 0.1).sum()),
                }
            )
        found[kind] = sorted(rows, key=lambda row: row["place"])
        start += len(shares)
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Write experiments/summary.jsonl. Exit status: 0 done, 2 a refusal."""
    try:
        chosen = arguments.read(list(sys.argv[1:] if given is None else given), DEFAULTS, {"table": str})
        pool = build(*read(Path(chosen["table"]) if chosen["table"] else table.TABLE))
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    content = {"command": "python -m experiments.search_evidence.options", "commit": results.commit()}
    rows = [{"kind": kind, **row} for kind, ranked in effects(pool).items() for row in ranked]
    tables.write(tables.SUMMARY, {**content, "configs": len(pool), "steps": pool.steps}, rows)
    print(f"{tables.SUMMARY}: what {len(pool)} configs say of {len(rows)} options")
    return 0


if __name__ == "__main__":
    sys.exit(main())

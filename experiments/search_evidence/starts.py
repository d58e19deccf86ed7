"""The configs that the default search begins with, trained as the table's are: the baseline and the known starts.

    python -m experiments.search_evidence.starts

Writes starts.jsonl: a head, then two seeds of each, in the form of the table; draw -1 is the baseline, -2 the first
start and so on. They were chosen by hand, so they are no draws of the table's space and are kept apart from them.
"""

import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from benchmarks import results
from denoise.config.compose import compose
from denoise.errors import UserError
from experiments.search_evidence import table
from experiments.search_evidence.pool import Pool, build
from search.trial import provenance

STARTS = Path(__file__).parent / "starts.jsonl"


def train() -> list[dict[str, Any]]:
    """Two seeds of the baseline and of each known start of conf/search/joint.yaml."""
    found = table.whole_space()
    listed: list[list[str]] = [[], *map(list, compose(table.FIXED, "search").cfg.search.enqueue)]
    rows = []
    for i, typed in enumerate(listed, start=1):
        params = found.point(compose([*table.FIXED, *typed], "search"))
        overrides = found.at(params)
        for seed in (0, 1):
            row = table.training(table.Row(-i, seed, table.WIDTH), params, overrides)
            rows.append({"typed": typed, **row})
            print(f"{' '.join(typed) or 'baseline'}, seed {seed}: {row['outcome']} {row['curve'][-1:]}", flush=True)
    return rows


def pool(described: Mapping[str, Any], path: Path = STARTS) -> Pool:
    """The starts as a pool in the table's space, in the order in which they are tried. Errors: UserError."""
    if not path.exists():
        raise UserError(f"{path}: no such file; fill it with python -m experiments.search_evidence.starts")
    found = build([json.loads(line) for line in path.read_text().splitlines()[1:]], described, 1)
    return found.take(np.argsort(-found.draws))


def main() -> int:
    """Train them and write the file. Exit status 0."""
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    head = {"fixed": table.FIXED, "steps": table.STEPS, "every": table.EVERY, "machine": provenance.describe()}
    lines = [head | {"commit": results.commit()}, *train()]
    STARTS.write_text("\n".join(json.dumps(one, separators=(",", ":")) for one in lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

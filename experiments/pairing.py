"""How much the same batches, noise levels and noise shrink the variance of a difference between two options.

    python -m experiments.pairing [steps=200] [seeds=8] [activations=relu,elu,silu,gelu,mish]

Var(x - y) / (Var x + Var y) over seeds, x and y the objectives of two options trained with the same seed: 1 is what
independent randomness gives, 0 would make one seed enough.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arguments, results
from denoise.config import catalog
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.training import train
from experiments import tables
from search.trial import provenance
from search.trial.config_hash import config_sha256

TRAININGS = tables.FOLDER / "pairing.jsonl"
SUMMARY = tables.FOLDER / "pairing_summary.jsonl"
DEFAULTS = {"steps": 200, "seeds": 8, "activations": ("relu", "elu", "silu", "gelu", "mish")}
RESAMPLES = 10_000


def measure(path: Path, activations: Sequence[str], seeds: int, steps: int) -> dict[str, list[float]]:
    """Train every option with every seed, but for what the file has from this machine; option -> objective by seed.

    A new training is appended as soon as it ends.
    """
    here = provenance.describe()
    known = {one["config_sha256"]: one["val_loss"] for one in tables.lines(path) if one["machine"] == here}
    values: dict[str, list[float]] = {name: [] for name in activations}
    total, began = seeds * len(activations), time.perf_counter()
    for i, (seed, name) in enumerate((seed, name) for seed in range(seeds) for name in activations):
        composed = compose([f"activation={name}", f"seed={seed}", f"trainer.max_steps={steps}"])
        digest = config_sha256(composed)
        was_known = digest in known
        if not was_known:
            result = train.train(composed.cfg)
            known[digest] = result.metrics["val/loss"] if result.outcome == "complete" else float("nan")
            entry = {"activation": name, "seed": seed, "steps": steps, "val_loss": known[digest]}
            tables.append(path, entry | {"config_sha256": digest, "machine": here})
        values[name].append(known[digest])
        note = ", from the file" if was_known else ""
        shown = f"{name} seed {seed}: val/loss {known[digest]:.4f}{note}"
        print(f"{time.perf_counter() - began:7.1f} s  {i + 1}/{total}  {shown}", flush=True)
    return values


def variance_ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Var(x - y) / (Var x + Var y) over the last axis."""
    return (x - y).var(axis=-1, ddof=1) / (x.var(axis=-1, ddof=1) + y.var(axis=-1, ddof=1))


def summarize(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The ratio of each pair, their mean with a bootstrap interval over seeds, each option's mean and spread."""
    arrays = {name: np.asarray(seeds, dtype=float) for name, seeds in values.items()}
    count = len(next(iter(arrays.values())))
    chosen = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    pairs, resampled = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for (first, x), (second, y) in combinations(arrays.items(), 2):
            difference = {"mean": float((x - y).mean()), "sd": float((x - y).std(ddof=1))}
            pairs.append({"pair": [first, second], "ratio": float(variance_ratio(x, y)), "difference": difference})
            resampled.append(variance_ratio(x[chosen], y[chosen]))
    means = np.stack(resampled).mean(axis=0)
    low, high = np.quantile(means[np.isfinite(means)], [0.025, 0.975])
    return {
        "options": {n: {"mean": float(a.mean()), "sd": float(a.std(ddof=1))} for n, a in arrays.items()},
        "pairs": pairs,
        "mean_ratio": float(np.mean([pair["ratio"] for pair in pairs])),
        "interval_95": [float(low), float(high)],
    }


def markdown(content: Mapping[str, Any]) -> str:
    """The summary as two markdown tables."""
    lines = ["| activation | mean val/loss | sd over seeds |", "|---|---|---|"]
    lines += [f"| {name} | {one['mean']:.4f} | {one['sd']:.4f} |" for name, one in content["options"].items()]
    lines += ["", "| pair | mean difference | Var(x - y) / (Var x + Var y) |", "|---|---|---|"]
    for one in content["pairs"]:
        lines.append(f"| {', '.join(one['pair'])} | {one['difference']['mean']:+.4f} | {one['ratio']:.2f} |")
    low, high = content["interval_95"]
    lines.append(f"| mean | | {content['mean_ratio']:.2f} ({low:.2f} to {high:.2f}) |")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    """Train what is missing, write the summary and print it. Exit status: 0 done, 2 a refusal, 130 interrupted."""
    readers = {
        "steps": arguments.at_least(1),
        "seeds": arguments.at_least(3),
        "activations": arguments.some_of(*catalog.options("activation")),
    }
    words = list(sys.argv[1:] if given is None else given)
    try:
        options = arguments.read(words, DEFAULTS, readers)
        if len(options["activations"]) < 2:
            raise UserError(f"activations={options['activations'][0]}: a difference needs two or more")
        values = measure(TRAININGS, options["activations"], options["seeds"], options["steps"])
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    head: dict[str, Any] = {
        "command": " ".join(["python -m experiments.pairing", *words]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": results.commit(),
        "machine": provenance.describe(),
        "steps": options["steps"],
        "seeds": options["seeds"],
    }
    found = summarize(values)
    head |= {name: found[name] for name in ("mean_ratio", "interval_95")}
    options_found = [one | {"values": values[one["option"]]} for one in tables.named(found["options"], "option")]
    tables.write(SUMMARY, head, [*options_found, *found["pairs"]])
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

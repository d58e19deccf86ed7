"""Which learning rates are good for each optimizer: what the domains in conf/optimizer/ rest on.

    python -m experiments.lr_sweep optimizer=adan,lamb [rates=0.001,0.01] [width=16] [steps=120] [schedule=NAME]

One training per rate, of the default U-Net in `width` on digits; the objective by rate as a markdown table.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import arguments
from denoise.config import catalog
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.training import train
from experiments import tables
from search.trial import provenance
from search.trial.config_hash import config_sha256

TRAININGS = tables.FOLDER / "lr_sweep.jsonl"
DEFAULTS = {"optimizer": ("adamw",), "rates": (), "width": 16, "steps": 120, "schedule": "warmup_cosine"}
POINTS = 6


def spread(option: str) -> list[float]:
    """POINTS rates, evenly in logarithm, from the lower end of the option's domain to a factor of 2 above the upper."""
    domain = catalog.entry("optimizer", option).space["lr"]
    low, high = math.log(domain["low"]), math.log(2 * domain["high"])
    rates = [math.exp(low + (high - low) * i / (POINTS - 1)) for i in range(POINTS)]
    return [float(f"{rate:.1e}") for rate in rates]


def measure(option: str, rates: Sequence[float], width: int, steps: int, schedule: str) -> dict[float, float]:
    """Train with each rate, but for what the file has from this machine; rate -> objective, NaN where it diverged."""
    here, found = provenance.describe(), {}
    known = {one["config_sha256"]: one for one in tables.lines(TRAININGS) if one["machine"] == here}
    for rate in rates:
        domain = [f"optimizer.space.lr.low={min(rates)}", f"optimizer.space.lr.high={max(rates)}"]
        setting = [f"model.width={width}", f"trainer.max_steps={steps}", f"lr_schedule={schedule}"]
        composed = compose([f"optimizer={option}", *domain, f"optimizer.lr={rate}", *setting])
        composed.cfg.optimizer.space = {}  # where a domain ends is no part of a training
        digest = config_sha256(composed)
        if digest not in known:
            result = train.train(composed.cfg)
            value = result.metrics["val/loss"] if result.outcome == "complete" else float("nan")
            known[digest] = {"optimizer": option, "lr": rate, "width": width, "steps": steps, "schedule": schedule}
            known[digest] |= {"val_loss": value, "seconds": round(result.training_seconds, 2)}
            tables.append(TRAININGS, known[digest] | {"config_sha256": digest, "machine": here})
        one = known[digest]
        found[rate] = one["val_loss"]
        print(
            f"{option} lr {rate:g}: val/loss {one['val_loss']:.4f}, {one['seconds']:.1f} s", file=sys.stderr, flush=True
        )
    return found


def markdown(values: Mapping[str, Mapping[float, float]]) -> str:
    """The objective of each rate, a line for each optimizer."""
    lines = ["| optimizer | lr: val/loss |", "|---|---|"]
    for option, by_rate in values.items():
        cells = [f"{r:g}: {v:.3f}" if math.isfinite(v) else f"{r:g}: diverged" for r, v in sorted(by_rate.items())]
        lines.append(f"| {option} | {', '.join(cells)} |")
    return "\n".join(lines)


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers above zero with commas between them."""
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ValueError("must be numbers with commas between them") from error
    if not all(0 < number < math.inf for number in found):
        raise ValueError("each must be above zero")
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Train what is missing and print the table. Exit status: 0 done, 2 a refusal, 130 interrupted."""
    readers: dict[str, Any] = {
        "optimizer": arguments.some_of(*catalog.options("optimizer")),
        "rates": numbers,
        "width": arguments.at_least(1),
        "steps": arguments.at_least(1),
        "schedule": arguments.one_of(*catalog.options("lr_schedule")),
    }
    words = list(sys.argv[1:] if given is None else given)
    try:
        o = arguments.read(words, DEFAULTS, readers)
        chosen = {option: o["rates"] or spread(option) for option in o["optimizer"]}
        values = {
            option: measure(option, rates, o["width"], o["steps"], o["schedule"]) for option, rates in chosen.items()
        }
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(markdown(values))
    return 0


if __name__ == "__main__":
    sys.exit(main())

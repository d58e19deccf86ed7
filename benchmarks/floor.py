"""The least that the steps of some trials take on this machine, in as many processes as a search has, and nothing else.

No search, no tracking, no Lightning, no evaluation, no averaged weights, no draws: forward, backward and optimizer
on batches that are there already, with the trials dealt out so that no process waits for another.

    python -m benchmarks.floor configs=FILE out=FILE [threads=1] [steps=40] [backwards=0]
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import arguments, results
from benchmarks.steps import WARM, Bare, median_seconds
from denoise.config.compose import compose, raw_compose
from denoise.errors import UserError
from denoise.training import cost
from search.workers.allocation import division

READERS: dict[str, Any] = {
    "configs": Path,
    "out": Path,
    "threads": arguments.at_least(1),
    "steps": arguments.at_least(1),
    "backwards": arguments.at_least(0),
}


def seconds(configs: Path, steps: int) -> float:
    """Seconds for the trials of a JSON file with `steps` measured of each: the sum of its steps times their median.

    Each process measures every trial, half of them in the opposite order, so that all are measured beside others.
    """
    divided = division(compose([], "search").cfg)
    trials = json.loads(configs.read_text())
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{number}.json" for number in range(divided.workers)]
        threads = divided.threads or torch.get_num_threads()
        given = [f"configs={configs}", f"threads={threads}", f"steps={steps}"]
        path = os.pathsep.join([str(results.ROOT / "src"), str(results.ROOT)])
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.floor", *given, f"out={out}", f"backwards={number % 2}"],
                cwd=results.ROOT,
                env=os.environ | {"PYTHONPATH": path},
            )
            for number, out in enumerate(outs)
        ]
        statuses = [process.wait() for process in processes]
        if any(statuses):
            raise RuntimeError(f"python -m benchmarks.floor ended with {max(statuses)}")
        medians = [json.loads(out.read_text()) for out in outs]
    every = [sum(found) / len(found) for found in zip(*medians, strict=True)]
    return sum(trial["steps"] * step for trial, step in zip(trials, every, strict=True)) / divided.workers


def measured(trial: dict[str, Any], steps: int) -> float:
    """The median seconds of a trial's step."""
    bare = Bare(raw_compose(tuple(trial["overrides"])).cfg)
    inputs = [bare.module.draw(number) for number in range(8)]
    for number in range(WARM):
        bare.learn(inputs[number])
    turn = iter(range(10**9))
    with cost.no_subnormals(bare.device):  # as a training has it
        return median_seconds(lambda: bare.learn(inputs[next(turn) % len(inputs)]), steps, bare.device)


def main(given: Sequence[str] | None = None) -> int:
    """Measure every trial in this process and write the medians."""
    try:
        words = sys.argv[1:] if given is None else given
        options = arguments.read(words, {"threads": 1, "steps": 40, "backwards": 0}, READERS)
        for name in ("configs", "out"):
            if name not in options:
                raise UserError(f"{name}=: missing; write configs=FILE out=FILE")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore")
    cost.keep_freed_memory()  # as a training does
    trials = json.loads(options["configs"].read_text())
    order = range(len(trials))[:: -1 if options["backwards"] else 1]
    found = [0.0] * len(trials)
    for place in order:
        torch.set_num_threads(options["threads"])
        found[place] = measured(trials[place], options["steps"])
    options["out"].write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

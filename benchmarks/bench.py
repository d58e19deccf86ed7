"""Measure speed as ratios within one run.

    python -m benchmarks.bench [size=full|quick] [part=a,b,c,d,e,f,g,h] [repeat=1] [seed=0]
    python -m benchmarks.bench report [size=full|quick] [part=...]

`repeat` is how often parts c and d are measured; `seed` draws their trials. `report` prints the results as markdown.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import activations, arguments, reading, results, steps, surgery, walls
from denoise.errors import UserError

PARTS = {
    "a": "our training step against a bare PyTorch loop",
    "b": "the rate of training steps against a large matrix product",
    "c": "a whole search against the script by hand",
    "d": "the search's own overhead",
    "e": "our activations against their plain formulas",
    "f": "what looking at the layers adds to a training",
    "g": "reading the user's own images",
    "h": "a network in the host against the bare one",
}
DEFAULTS = {"size": "full", "part": tuple(PARTS), "repeat": 1, "seed": 0}
READERS = {
    "size": arguments.one_of("full", "quick"),
    "part": arguments.some_of(*PARTS),
    "repeat": arguments.at_least(1),
    "seed": arguments.at_least(0),
}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benchmark or show its report. Exit status: 0 measured, 1 a part failed, 2 a refusal, 130 interrupted."""
    words = list(sys.argv[1:] if given is None else given)
    try:
        if words[:1] == ["report"]:
            told = ("size", "part")
            options = arguments.read(
                words[1:], {key: DEFAULTS[key] for key in told}, {key: READERS[key] for key in told}
            )
            print(report(place(options["size"], options["part"])))
            return 0
        return run(arguments.read(words, DEFAULTS, READERS), " ".join(["python -m benchmarks.bench", *words]))
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the parts that were done are in the results", file=sys.stderr)
        return 130


def place(size: str, parts: Sequence[str]) -> Path:
    """The results file: a quick run, or one of some parts, never takes the place of a full one."""
    of = [*([] if tuple(parts) == tuple(PARTS) else parts), *([] if size == "full" else [size])]
    return results.FOLDER / f"{'-'.join(['bench', *of])}.json"


def run(options: dict[str, Any], command: str) -> int:
    """Measure the chosen parts, write the results after each, and print the table."""
    size, parts = options["size"], options["part"]
    path = place(size, parts)
    content = results.start(command, size)
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:7.1f} s  {text}", flush=True)

    rows: list[results.Row] = []
    if content["load"]["before"][0] > 0.5:
        say(f"the machine is busy (load {content['load']['before'][0]}): the figures will not be worth much")
    for names, measure in (
        (("a",), lambda: steps.part_a(steps.SIZES[size], say)),
        (("b",), lambda: steps.part_b(steps.SIZES[size], say)),
        (("c", "d"), lambda: walls.measure(walls.SIZES[size], parts, options["repeat"], options["seed"], say)),
        (("e",), lambda: activations.measure(size, say)),
        (("f",), lambda: steps.part_f(steps.SIZES[size], say)),
        (("g",), lambda: reading.measure(reading.SIZES[size], say)),
        (("h",), lambda: surgery.measure(surgery.SIZES[size], say)),
    ):
        chosen = [name for name in names if name in parts]
        if not chosen:
            continue
        for name in chosen:
            say(f"part {name}: {PARTS[name]}")
        content["raw"]["".join(names)], found = measure()
        rows += found
        content["rows"] = [results.as_json(row) for row in rows]
        content["seconds"] = round(time.perf_counter() - began, 1)
        content["load"]["after"] = results.load()
        results.write(path, content)
    say("done")
    console.print(results.table(rows, f"{content['machine']['processor']}, {content['torch_threads']} threads"))
    console.print(f"every repetition: {path.relative_to(results.ROOT)}")
    return 0


def report(path: Path) -> str:
    """The results of a run as a markdown table. Errors: UserError where there are none."""
    if not path.exists():
        raise UserError(f"{path.relative_to(results.ROOT)}: no results yet; measure with python -m benchmarks.bench")
    return results.markdown(json.loads(path.read_text()))


if __name__ == "__main__":
    sys.exit(main())

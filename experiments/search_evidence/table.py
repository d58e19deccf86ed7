"""A table of real trainings: configs drawn over the whole space, two seeds each, the objective at every rung.

    python -m experiments.search_evidence.table [configs=1000] [part=0] [parts=1]
    python -m experiments.search_evidence.table again=20

The smallest U-Net on digits. What is trained is appended to experiments/results/evidence.jsonl at once, so the command
may be killed and given again, or started in several parts side by side. `again` trains some rows of the committed
table anew and compares. Each row has the numbers of its draw alone: more configs change no row.
"""

import gzip
import json
import random
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks import arguments, results
from benchmarks.filling import asked
from denoise.config.compose import compose
from denoise.errors import UserError
from denoise.randomness import key
from denoise.training import train
from experiments.tables import FOLDER, append, lines
from search.space import search_space
from search.trial import provenance

TRAININGS = FOLDER / "evidence.jsonl"
TABLE = Path(__file__).parent / "table.jsonl.gz"
DEFAULTS = {"configs": 1000, "part": 0, "parts": 1, "again": 0}
STEPS, EVERY, WIDTH, WIDER, WIDER_ROWS, BLOCK = 128, 16, 8, 16, 150, 50
FIXED = (
    "model.num_heads=2",
    "model.embedding_dim=32",
    "data.batch_size=32",
    f"trainer.max_steps={STEPS}",
    f"trainer.val_every={EVERY}",
    "trainer.val_samples=256",
    "trainer.gap_samples=0",
    "trainer.health_every=1000000",
    "trainer.num_threads=1",
    "trainer.accelerator=cpu",
    "solver.images=1",
    "solver.steps=2",
)


@dataclass(frozen=True)
class Row:
    """One training of the table: the draw's number, the seed and the width it is trained with."""

    draw: int
    seed: int
    width: int


def rows(configs: int) -> Iterator[Row]:
    """Every training of the table, in blocks that are whole when the run is stopped early."""
    for first in range(0, configs, BLOCK):
        draws = range(first, min(first + BLOCK, configs))
        for seed in (0, 1):
            yield from (Row(draw, seed, WIDTH) for draw in draws)
        yield from (Row(draw, 0, WIDER) for draw in draws if draw < WIDER_ROWS)


def draw(found: search_space.Space, number: int) -> tuple[dict[str, Any], list[str]]:
    """The params and overrides of one draw from the whole space, whatever was drawn before; draw 0 is the baseline."""
    if number == 0:
        params = found.point(compose(FIXED, "search"))
        return params, found.at(params)
    sampler = optuna.samplers.RandomSampler(seed=key(0, "evidence", number) % 2**32)
    trial = optuna.create_study(sampler=sampler).ask()
    overrides = found.suggest(asked(trial))
    return dict(trial.params), overrides


def whole_space() -> search_space.Space:
    """All kinds with all their options, as the default search has them."""
    return search_space.build(compose(FIXED, "search"), FIXED)


class Curve:
    """Keep the objective at every rung."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        pass

    def on_objective(self, step: int, value: float) -> bool:
        self.values.append(value)
        return False

    def on_step(self) -> None:
        """Nothing."""

    def on_save(self, step: int) -> None:
        pass


def measure(row: Row, found: search_space.Space) -> dict[str, Any]:
    """Train one row."""
    return training(row, *draw(found, row.draw))


def training(row: Row, params: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Train a config as the table's rows are. One that diverges or raises is a row too: its curve ends early."""
    curve, began = Curve(), time.perf_counter()
    content: dict[str, Any] = {"draw": row.draw, "seed": row.seed, "width": row.width, "params": params}
    try:
        cfg = compose([*overrides, f"seed={row.seed}", f"model.width={row.width}"]).cfg
        result = train.train(cfg, curve)
        content |= {"outcome": result.failure.kind if result.failure else result.outcome, "step": result.step}
        content |= {name: result.metrics.get(f"cost/{name}") for name in ("parameters", "flops_per_step")}
        content["training_seconds"] = round(result.training_seconds, 3)
    except UserError as error:
        content |= {"outcome": "refused", "step": 0, "reason": str(error)[:200]}
    except Exception as error:
        content |= {"outcome": "error", "step": 0, "reason": f"{type(error).__name__}: {error}"[:200]}
    return content | {"curve": curve.values, "seconds": round(time.perf_counter() - began, 3)}


def fill(configs: int, part: int, parts: int) -> None:
    """Train what the file lacks, this part's share of it."""
    found, here = whole_space(), provenance.describe()
    if TABLE.exists() and load()[0]["machine"] != here:
        raise UserError(f"{TABLE}: was trained on another machine, whose bits are others; move it away to begin anew")
    done = set(trained())
    wanted = [row for row in rows(configs) if row.draw % parts == part]
    missing = [row for row in wanted if row not in done]
    print(f"{len(wanted)} trainings, {len(wanted) - len(missing)} of them done", file=sys.stderr, flush=True)
    began = time.perf_counter()
    for i, row in enumerate(missing, start=1):
        content = measure(row, found)
        append(TRAININGS, content | {"machine": here})
        left = (time.perf_counter() - began) / i * (len(missing) - i)
        value = f"{content['curve'][-1]:.4f}" if content["curve"] else "-"
        said = f"draw {row.draw} seed {row.seed} width {row.width}: {content['outcome']} {value}"
        print(
            f"{i}/{len(missing)}  {said}  {content['seconds']:.1f} s  [{left / 60:.0f} min left]",
            file=sys.stderr,
            flush=True,
        )


def trained() -> dict[Row, dict[str, Any]]:
    """What was trained before: the committed table, and what this machine has added to it."""
    found = load()[1] if TABLE.exists() else []
    return {Row(one["draw"], one["seed"], one["width"]): one for one in [*found, *lines(TRAININGS)]}


def pack(configs: int) -> int:
    """Write the table: its head, then the trainings in order, compressed so that the same rows give the same bytes.

    All of a table's rows are one machine's: the bits of a training are.
    """
    known = trained()
    chosen = [{**known[row]} for row in rows(configs) if row in known]
    machines = {json.dumps(one.pop("machine")) for one in chosen if "machine" in one}
    machines |= {json.dumps(load()[0]["machine"])} if TABLE.exists() else set()
    if len(machines) > 1:
        raise UserError(f"{TABLE}: its rows are another machine's; move {TRAININGS} and the table away, or go on there")
    where = json.loads(machines.pop())
    head = {"fixed": FIXED, "steps": STEPS, "every": EVERY, "machine": where, "commit": results.commit()}
    head["space"] = whole_space().describe()
    text = "\n".join(json.dumps(one, separators=(",", ":")) for one in (head, *chosen)) + "\n"
    TABLE.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    return len(chosen)


def load(path: Path = TABLE) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the table: its head and its trainings."""
    head, *found = (json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines())
    return head, found


def again(count: int) -> int:
    """Train `count` random rows of the table anew and print both values; 1 where they differ on the same machine."""
    head, recorded = load()
    found, differ = whole_space(), 0
    for one in random.Random(time.time_ns()).sample(recorded, count):
        new = measure(Row(one["draw"], one["seed"], one["width"]), found)
        same = new["curve"] == one["curve"] and new["outcome"] == one["outcome"]
        differ += not same
        old_value, new_value = (each["curve"][-1] if each["curve"] else None for each in (one, new))
        print(f"draw {one['draw']} seed {one['seed']} width {one['width']}: {old_value!r} {new_value!r}", end="  ")
        print("same" if same else "DIFFERS", flush=True)
    here = provenance.describe()
    other = ", ".join(f"{name} {head['machine'].get(name)} (here {here[name]})" for name in here)
    same_machine = here == head["machine"]
    print(f"{count - differ} of {count} the same" + ("" if same_machine else f"; another machine: {other}"))
    return 1 if differ and same_machine else 0


def main(given: Sequence[str] | None = None) -> int:
    """Train what is missing and write the table. Exit status: 0 done, 1 differs, 2 a refusal, 130 interrupted."""
    readers: dict[str, Any] = {name: arguments.at_least(low) for name, low in (("configs", 2), ("part", 0))}
    readers |= {"parts": arguments.at_least(1), "again": arguments.at_least(1)}
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    try:
        o = arguments.read(list(sys.argv[1:] if given is None else given), DEFAULTS, readers)
        if o["again"]:
            return again(o["again"])
        fill(o["configs"], o["part"], o["parts"])
        print(f"{TABLE}: {pack(o['configs'])} trainings")
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

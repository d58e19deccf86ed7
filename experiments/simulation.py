"""How often a confirmed search is wrong, and what it can find: whole searches simulated, with the code that decides.

    python -m experiments.simulation [searches=2000]

A search: `trials` configs on one seed and one set of images, the `finalists` best of them (never the baseline), then
fresh seeds and other images with looks on the way (search.confirm.statistics). Values are in units of the standard
deviation over seeds of one config.
"""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks import arguments, results
from denoise.errors import UserError
from experiments import tables
from search.analysis.sequential_test import (
    BETTER,
    OPEN,
    WORSE,
    SequentialTest,
    differences,
    images_error,
    run_sequential,
)

RESULT = tables.FOLDER / "simulation.jsonl"
DEFAULTS = {"searches": 2000}
GOAL = 0.05
IMAGES = 32  # of the test, in the simulation
SHAPE = 0.75  # of the log-normal noise
SHAPES = {
    "normal": "normal",
    "heavy": "Student's t, 3 degrees of freedom",
    "skewed": "log-normal in every arm: now and then a bad seed",
    "spreads": "normal, each config with its own spread, 0.5 to 2",
}
UNEQUAL = {
    "bad": "finalists go bad on one seed in ten, by 7.7 sd; on the other seeds they are the baseline's equals",
    "bad_equal_means": "finalists go bad on one seed in ten, by 7.7 sd, and are better on the others: equal means",
    "skewed_finalists": "log-normal finalists beside a normal baseline, equal medians",
    "skewed_equal_means": "log-normal finalists beside a normal baseline, equal means",
}
BAD_RATE, BAD = 0.1, 10.0  # of what a training draws for itself
Noise = NDArray[np.float64]


@dataclass(frozen=True)
class Scenario:
    """One kind of search. ratio: Var(x - y) / (Var x + Var y) of two configs on one seed (0.59: experiments.pairing).

    advantage: how much better one of the trials truly is than all others, in standard deviations over seeds; 0: all
    are equal. offset: the standard deviation of what a set of images does to a config, whatever the seed; diverging:
    the part of the trainings that diverge, in every arm.
    """

    finalists: int = 2
    seeds: int = 5
    trials: int = 24
    ratio: float = 0.59
    noise: str = "normal"
    advantage: float = 0.0
    offset: float = 0.0
    diverging: float = 0.0
    hopeless: float = 0.0  # |t| below which a finalist is given up; 0: nobody is
    level: float = 0.95


def skewed(rng: np.random.Generator, size: tuple[int, int]) -> Noise:
    """Log-normal, median 0, variance 1."""
    return np.asarray((rng.lognormal(0, SHAPE, size) - 1) / math.sqrt((math.exp(SHAPE**2) - 1) * math.exp(SHAPE**2)))


SKEWED_MEAN = (math.exp(SHAPE**2 / 2) - 1) / math.sqrt((math.exp(SHAPE**2) - 1) * math.exp(SHAPE**2))


def own(rng: np.random.Generator, noise: str, size: tuple[int, int]) -> Noise:
    """What a training draws for itself, (seeds, configs); the first config is the baseline. Variance about 1."""
    x = np.asarray(rng.standard_normal(size))
    if noise == "heavy":
        x = rng.standard_t(3, size) / 3**0.5
    if noise == "skewed":
        x = skewed(rng, size) - SKEWED_MEAN
    if noise == "spreads":
        x = x * np.exp(rng.uniform(math.log(0.5), math.log(2.0), size[1]))
    if noise.startswith("skewed_"):
        x[:, 1:] = skewed(rng, (size[0], size[1] - 1)) - (SKEWED_MEAN if noise == "skewed_equal_means" else 0)
    if noise.startswith("bad"):
        x[:, 1:] += BAD * (rng.random((size[0], size[1] - 1)) < BAD_RATE)
        x[:, 1:] -= BAD * BAD_RATE if noise == "bad_equal_means" else 0
    return x


def confirmed(scenario: Scenario, searches: int, seed: int = 0) -> dict[str, Any]:
    """Simulate searches; how many said better or worse of a config that is not, chose the better one and found it.

    trainings: the mean number of trainings of a confirmation; width: that of the mean interval of equal arms, a median.
    """
    s, rng = scenario, np.random.default_rng(seed)
    rule = SequentialTest(s.finalists, s.seeds, s.level)
    counts = {"false_better": 0, "false_worse": 0, "chosen": 0, "found": 0, "trainings": 0}
    widths: list[float] = []
    for _ in range(searches):
        arms, images, chosen = drawn(s, rng)

        def error(arm: int, images: Noise = images) -> float:
            return images_error(images[arm] - images[0], np.arange(IMAGES)) if s.offset else 0.0

        values: list[list[float]] = [[] for _ in arms]
        said = [OPEN] * len(arms)

        def train(asked: Sequence[tuple[int, int]], arms: Noise = arms, values: Any = values) -> None:
            for arm, at in asked:
                values[arm].append(float(arms[arm, at]))

        def decided(arm: int, values: Any = values, error: Any = error) -> bool:
            if s.hopeless and _hopeless(differences(values[arm], values[0]), s.hopeless):
                return True
            return rule.verdict(values[arm], values[0], error(arm)) != OPEN

        run_sequential(range(s.seeds), [0], range(1, len(arms)), train, decided)
        for arm in range(1, len(arms)):
            said[arm] = rule.final(values[arm], values[0], error(arm))
            low, high = rule.interval(differences(values[arm], values[0]), error(arm)) or (np.nan, np.nan)
            widths.append(high - low)
        equal = [one for k, one in enumerate(said[1:], 1) if not (s.advantage and chosen == k)]
        counts["trainings"] += sum(map(len, values))
        counts["chosen"] += chosen > 0
        counts["found"] += chosen > 0 and said[chosen] == BETTER
        counts["false_better"] += BETTER in equal
        counts["false_worse"] += WORSE in equal
    width = float(np.nanmedian(widths)) if np.isfinite(widths).any() else None
    return {**counts, "trainings": counts["trainings"] / searches, "width": width}


def drawn(s: Scenario, rng: np.random.Generator) -> tuple[Noise, Noise, int]:
    """One search: the fresh values (arms, seeds), what each test image does to each arm, where the better one stands.

    The baseline is arm 0; with an advantage config 1 is the better one, and its place is 0 where it was not chosen.
    """
    true = np.zeros(s.trials)
    true[1] -= s.advantage
    size = (s.seeds + 1, s.trials)
    shared = rng.standard_normal((size[0], 1)) * (1 - s.ratio) ** 0.5
    values = true + shared + own(rng, s.noise, size) * s.ratio**0.5
    if s.diverging:
        values[rng.random(size) < s.diverging] = np.inf
    searched = values[0, 1:] + s.offset * rng.standard_normal(s.trials - 1)
    best = [0, *(1 + np.argsort(searched)[: s.finalists])]
    images = s.offset * math.sqrt(IMAGES) * rng.standard_normal((len(best), IMAGES))
    fresh = values[1:, best].T + images.mean(axis=1, keepdims=True)
    return fresh, images, best.index(1) if s.advantage and 1 in best else 0


def _hopeless(found: Sequence[float], least: float) -> bool:
    d = np.asarray(found)
    return len(d) > 1 and bool(abs(d.mean()) < least * d.std(ddof=1) / len(d) ** 0.5)


def row(scenario: Scenario, searches: int) -> dict[str, Any]:
    """A scenario with its counts and exact binomial intervals (Clopper & Pearson)."""
    began = time.perf_counter()
    found = confirmed(scenario, searches)
    content: dict[str, Any] = {**asdict(scenario), **found, "searches": searches}
    for name, count, of in (
        ("false_better_rate", found["false_better"], searches),
        ("false_worse_rate", found["false_worse"], searches),
        ("power", found["found"], found["chosen"]),
        ("end_to_end", found["found"], searches if scenario.advantage else 0),
    ):
        if of:
            interval = stats.binomtest(int(count), int(of)).proportion_ci(method="exact")
            content[name] = [count / of, float(interval.low), float(interval.high)]
    return content | {"seconds": time.perf_counter() - began}


def scenarios() -> dict[str, list[Scenario]]:
    """What is simulated, by table; `null` and `equal` have the goal."""
    base = Scenario()
    equal = [replace(base, finalists=k, noise=noise) for noise in SHAPES for k in range(1, 6)]
    null = [replace(base, noise="bad", seeds=n) for n in (5, 10)]
    null += [replace(base, noise="skewed_finalists")]
    null += [replace(base, diverging=part) for part in (0.02, 0.05, 0.07, 0.1)]
    null += [replace(base, offset=o, trials=t) for t in (24, 200) for o in (0.1, 0.2, 0.3)]
    rare = [replace(base, noise=noise, seeds=n) for noise in ("bad_equal_means", "skewed_equal_means") for n in (5, 10)]
    power = [
        replace(base, finalists=k, seeds=n, advantage=d) for d in (1.0, 2.0) for n in (3, 5, 8) for k in (1, 2, 3, 5)
    ]
    again = [replace(base, seeds=n, advantage=d, hopeless=h) for n in (5, 8) for d in (0.0, 1.0) for h in (0.0, 1.0)]
    return {"equal": equal, "null": null, "rare": rare, "power": power, "hopeless": again}


def named(entry: Mapping[str, Any]) -> str:
    """What a row of the tables of null searches has that the others have not."""
    said = {**SHAPES, **UNEQUAL}[entry["noise"]]
    if entry["diverging"]:
        said = f"{entry['diverging']:.0%} of the trainings diverge in every arm"
    if entry["offset"]:
        said = f"what the images do to a config: {entry['offset']:g} sd, {entry['trials']} trials"
    return f"{said}; {entry['seeds']} seeds"


def markdown(content: Mapping[str, Any]) -> str:
    """The result as markdown tables."""

    def rate(entry: Mapping[str, Any], name: str) -> str:
        value, low, high = entry[name]
        return f"{value:.1%} ({low:.1%} to {high:.1%})"

    tables = content["tables"]
    lines = [
        f"`{content['command']}`, {content['date'][:10]}, {content['seconds']:.0f} s; {content['searches']} searches"
    ]
    lines[0] += " a row; 95 % binomial intervals."
    lines += ["", "Equal arms, 5 seeds: searches that called any finalist better (goal: at most 5 %).", ""]
    lines += ["| noise | 1 finalist | 2 | 3 | 4 | 5 |", "|---|---|---|---|---|---|"]
    for noise, name in SHAPES.items():
        mine = [entry for entry in tables["equal"] if entry["noise"] == noise]
        lines.append(f"| {name} | {' | '.join(rate(entry, 'false_better_rate') for entry in mine)} |")
    heads = {"null": "Other null searches, 2 finalists (goal: at most 5 % each)."}
    heads["rare"] = "Equal in the mean alone: what few seeds cannot tell from better (no goal)."
    for table, head in heads.items():
        lines += ["", head, "", "| searches | called better | called worse |", "|---|---|---|"]
        for entry in tables[table]:
            cells = [named(entry), rate(entry, "false_better_rate"), rate(entry, "false_worse_rate")]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Power: one trial is truly better; how often it is called so, once it is a finalist, and end to end",
        "",
    ]
    lines[-2] += " (it must become a finalist first)."
    lines += ["| better by | seeds | 1 finalist | 2 | 3 | 5 |", "|---|---|---|---|---|---|"]
    for d in (1.0, 2.0):
        for n in (3, 5, 8):
            mine = [entry for entry in tables["power"] if entry["advantage"] == d and entry["seeds"] == n]
            each = [
                f"{rate(e, 'power')}, end to end {e['end_to_end'][0]:.1%}, {e['trainings']:.1f} trainings" for e in mine
            ]
            lines.append(f"| {d:g} sd | {n} | {' | '.join(each)} |")
    lines += ["", "Giving up finalists with a difference of less than one standard error, at looks on the way.", ""]
    lines += [
        "| seeds | better by | gives up | called better wrongly | power | trainings | median width of the interval |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for entry in tables["hopeless"]:
        found = rate(entry, "power") if "power" in entry else ""
        line = f"{entry['seeds']} | {entry['advantage']:g} sd | {'yes' if entry['hopeless'] else 'no'}"
        line += f" | {rate(entry, 'false_better_rate')} | {found} | {entry['trainings']:.1f} | {entry['width']:.1f} sd"
        lines.append(f"| {line} |")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    """Simulate, write the result, print it as markdown. Exit status: 0 done, 1 the goal is missed, 2 a refusal."""
    words = list(sys.argv[1:] if given is None else given)
    try:
        options = arguments.read(words, DEFAULTS, {"searches": arguments.at_least(100)})
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    began, groups = time.perf_counter(), {}
    for name, group in scenarios().items():
        groups[name] = [row(scenario, options["searches"]) for scenario in group]
    head = {
        "command": " ".join(["python -m experiments.simulation", *words]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": results.commit(),
        "searches": options["searches"],
        "seconds": time.perf_counter() - began,
    }
    records = [{"table": name, **one} for name, rows in groups.items() for one in rows]
    tables.write(RESULT, head, records)
    print(markdown(head | {"tables": groups}))
    goals = [
        entry[f"false_{way}_rate"][0] for t in ("equal", "null") for entry in groups[t] for way in ("better", "worse")
    ]
    return int(max(goals) > GOAL)


if __name__ == "__main__":
    sys.exit(main())

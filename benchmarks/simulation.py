"""How often a confirmed search is wrong, and what it can find: whole searches simulated, with the code that decides.

    python -m benchmarks.simulation [searches=1000]

A search: `trials` configs on one seed, the `finalists` best of them (never the baseline), then fresh seeds with looks
on the way (search.statistics.course). Values are in units of the standard deviation over seeds of one config.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from scipy import stats

from benchmarks import arguments, results
from denoise.refusal import Refusal
from search.confirm.statistics import BETTER, Rule, course, paired

RESULT = results.FOLDER / "simulation.json"
DEFAULTS = {"searches": 1000}
GOAL = 0.05
NOISES = {
    "normal": "normal",
    "heavy": "Student's t, 3 degrees of freedom",
    "skewed": "log-normal: now and then a bad seed",
    "spreads": "normal, each config with its own spread, 0.5 to 2",
}


@dataclass(frozen=True)
class Scenario:
    """One kind of search. ratio: Var(x - y) / (Var x + Var y) of two configs on one seed (0.59: benchmarks.pairing).

    advantage: how much better one of the trials truly is than all others, in standard deviations over seeds; 0: all
    are equal.
    """

    finalists: int = 2
    seeds: int = 5
    trials: int = 24
    ratio: float = 0.59
    noise: str = "normal"
    advantage: float = 0.0
    hopeless: float = 0.0  # |t| below which a finalist is given up; 0: nobody is
    level: float = 0.95


class GivesUp(Rule):
    """A rule that also stops a finalist whose difference is less than `hopeless` of its standard errors."""

    hopeless = 1.0

    def settled(self, values: Sequence[float], baseline: Sequence[float]) -> bool:
        d = np.asarray(paired(values, baseline))
        error = d.std(ddof=1) / len(d) ** 0.5
        return super().settled(values, baseline) or bool(abs(d.mean()) < self.hopeless * error)


def own(rng: np.random.Generator, noise: str, spread: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What a training draws for itself, (seeds, arms), mean 0, variance 1 times spread^2."""
    if noise == "heavy":
        return rng.standard_t(3, size) / 3**0.5
    if noise == "skewed":
        s = 0.75
        return (rng.lognormal(0, s, size) - np.exp(s**2 / 2)) / np.sqrt((np.exp(s**2) - 1) * np.exp(s**2))
    return rng.standard_normal(size) * spread


def confirmed(scenario: Scenario, searches: int, seed: int = 0) -> dict[str, float]:
    """Simulate searches; how many said better of a config that is not, chose the better one and found it.

    trainings: the mean number of trainings of a confirmation; width: that of the mean interval of equal arms, a median.
    """
    s, rng = scenario, np.random.default_rng(seed)
    kind = GivesUp if s.hopeless else Rule
    rule = kind(s.finalists, s.seeds, s.level)
    true = np.zeros(s.trials)
    true[1] -= s.advantage
    counts = {"false_alarms": 0, "chosen": 0, "found": 0, "trainings": 0}
    widths: list[float] = []
    for _ in range(searches):
        spread = np.exp(rng.uniform(np.log(0.5), np.log(2.0), s.trials)) if s.noise == "spreads" else np.ones(s.trials)
        shared = rng.standard_normal((s.seeds + 1, 1)) * (1 - s.ratio) ** 0.5
        values = true + shared + own(rng, s.noise, spread, (s.seeds + 1, s.trials)) * s.ratio**0.5
        best = 1 + np.argsort(values[0, 1:])[: s.finalists]
        arms = [0, *(int(i) for i in best)]

        def train(asked: Sequence[Any], values: np.ndarray = values, arms: list[int] = arms) -> list[float]:
            return [float(values[seed, arms[arm]]) for arm, seed in asked]

        trained = course(rule, range(1, s.seeds + 1), train)
        said = {i: rule.verdict(v, trained[0]) for i, v in zip(arms[1:], trained[1:], strict=True)}
        counts["trainings"] += sum(len(v) for v in trained)
        counts["chosen"] += bool(s.advantage) and 1 in said
        counts["found"] += bool(s.advantage) and said.get(1) == BETTER
        counts["false_alarms"] += any(verdict == BETTER for i, verdict in said.items() if not (s.advantage and i == 1))
        for v in trained[1:]:
            low, high = rule.interval(paired(v, trained[0])) or (np.nan, np.nan)
            widths.append(high - low)
    return {**counts, "trainings": counts["trainings"] / searches, "width": float(np.median(widths))}


def row(scenario: Scenario, searches: int) -> dict[str, Any]:
    """A scenario with its counts and exact binomial intervals (Clopper & Pearson)."""
    began = time.perf_counter()
    found = confirmed(scenario, searches)
    content: dict[str, Any] = {**asdict(scenario), **found, "searches": searches}
    for name, count, of in (
        ("false_alarm_rate", found["false_alarms"], searches),
        ("power", found["found"], found["chosen"]),
    ):
        if of:
            interval = stats.binomtest(int(count), int(of)).proportion_ci(method="exact")
            content[name] = [count / of, float(interval.low), float(interval.high)]
    return content | {"seconds": time.perf_counter() - began}


def scenarios() -> dict[str, list[Scenario]]:
    """What is simulated, by table."""
    base = Scenario()
    equal = [replace(base, finalists=k, noise=noise) for noise in NOISES for k in range(1, 6)]
    power = [
        replace(base, finalists=k, seeds=n, advantage=d) for d in (1.0, 2.0) for n in (3, 5, 8) for k in (1, 2, 3, 5)
    ]
    again = [replace(base, seeds=n, advantage=d, hopeless=h) for n in (5, 8) for d in (0.0, 1.0) for h in (0.0, 1.0)]
    return {"equal": equal, "power": power, "hopeless": again}


def markdown(content: Mapping[str, Any]) -> str:
    """The result as three markdown tables."""

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
    for noise, name in NOISES.items():
        mine = [entry for entry in tables["equal"] if entry["noise"] == noise]
        lines.append(f"| {name} | {' | '.join(rate(entry, 'false_alarm_rate') for entry in mine)} |")
    lines += ["", "Power: one trial is truly better; how often it is called so, once it is a finalist.", ""]
    lines += ["| better by | seeds | 1 finalist | 2 | 3 | 5 |", "|---|---|---|---|---|---|"]
    for d in (1.0, 2.0):
        for n in (3, 5, 8):
            mine = [entry for entry in tables["power"] if entry["advantage"] == d and entry["seeds"] == n]
            cells = " | ".join(f"{rate(entry, 'power')}, {entry['trainings']:.1f} trainings" for entry in mine)
            lines.append(f"| {d:g} sd | {n} | {cells} |")
    lines += ["", "Giving up finalists with a difference of less than one standard error, at looks on the way.", ""]
    lines += ["| seeds | better by | gives up | false alarms | power | trainings | median width of the interval |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for entry in tables["hopeless"]:
        power = rate(entry, "power") if "power" in entry else ""
        cells = f"{entry['seeds']} | {entry['advantage']:g} sd | {'yes' if entry['hopeless'] else 'no'}"
        cells += f" | {rate(entry, 'false_alarm_rate')} | {power} | {entry['trainings']:.1f} | {entry['width']:.1f} sd"
        lines.append(f"| {cells} |")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    """Simulate, write the result, print it as markdown. Exit status: 0 done, 1 the goal is missed, 2 a refusal."""
    words = list(sys.argv[1:] if given is None else given)
    try:
        options = arguments.read(words, DEFAULTS, {"searches": arguments.at_least(100)})
    except Refusal as error:
        print(error, file=sys.stderr)
        return 2
    began, tables = time.perf_counter(), {}
    for name, group in scenarios().items():
        tables[name] = [row(scenario, options["searches"]) for scenario in group]
    content = {
        "command": " ".join(["python -m benchmarks.simulation", *words]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": results.commit(),
        "searches": options["searches"],
        "seconds": time.perf_counter() - began,
        "tables": tables,
    }
    results.write(RESULT, content)
    print(markdown(content))
    return int(any(entry["false_alarm_rate"][0] > GOAL for entry in tables["equal"]))


if __name__ == "__main__":
    sys.exit(main())

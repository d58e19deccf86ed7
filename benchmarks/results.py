"""What a run of the benchmark says: rows of figure and goal, as a table, as markdown and as JSON."""

import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from search.trial import provenance

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "lightning", "optuna", "mlflow", "hydra-core", "numpy")


@dataclass(frozen=True)
class Row:
    """A figure beside its goal: relation <= or >=, no goal where it is context; low, high over the repetitions."""

    part: str
    what: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    relation: str = ""
    goal: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.relation == "<=" else self.value >= self.goal


def ratio_row(part: str, what: str, ratios: Sequence[float], relation: str = "", goal: float | None = None) -> Row:
    """Sum up pairwise ratios: median, smallest, largest."""
    middle = statistics.median(ratios)
    several = len(ratios) > 1
    low, high = (min(ratios), max(ratios)) if several else (None, None)
    return Row(part, what, middle, "", low, high, relation, goal)


def cells(row: Row) -> tuple[str, str, str, str, str, str]:
    """A row as text: part, what, measured, range, goal, verdict."""

    def text(value: float | None) -> str:
        if value is None:
            return ""
        if row.unit == "%":
            return f"{value:.1%}"
        return f"{value:.0f} {row.unit}" if row.unit else f"{value:.3f}"

    spread = "" if row.low is None else f"{text(row.low)} to {text(row.high)}"
    goal = "" if row.goal is None else f"{row.relation} {row.goal:.0%}" if row.unit == "%" else ""
    if row.goal is not None and not goal:
        goal = f"{row.relation} {row.goal:g}"
    verdict = {None: "context", True: "met", False: "not met"}[row.met]
    return row.part, row.what, text(row.value), spread, goal, verdict


HEAD = ("part", "what", "measured", "range", "goal", "")


def table(rows: Sequence[Row], title: str) -> Table:
    """The rows as a table for a terminal."""
    made = Table(*HEAD, title=title, title_justify="left", pad_edge=False)
    for row in rows:
        made.add_row(*cells(row), style={None: "dim", True: "green", False: "red"}[row.met])
    return made


def markdown(content: Mapping[str, Any]) -> str:
    """What a results file says, as a markdown table under a line about the machine."""
    rows = [Row(**{key: value for key, value in row.items() if key != "met"}) for row in content["rows"]]
    found = content["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    load = ", ".join(str(value[0]) for value in content["load"].values())
    head = f"{found['processor']}, {content['cores']} cores, {found['threads']} threads, {found['instructions']}"
    if "gpu" in found:
        head += f", {found['gpu']}"
    lines = [f"`{content['command']}`, {content['date'][:10]}, commit {content['commit'] or 'unknown'}.", ""]
    lines += [f"{head}; {versions}; load of the machine before and after: {load}.", ""]
    shown = [cells(row) for row in rows]
    for line in (HEAD, ("---",) * len(HEAD), *shown):
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


def start(command: str, size: str) -> dict[str, Any]:
    """Begin a results file: where, when and with what it is measured. No names, no addresses, no paths."""
    return {
        "command": command,
        "size": size,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": provenance.describe(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in PACKAGES},
        "load": {"before": load()},
        "rows": [],
        "raw": {},
    }


def load() -> list[float]:
    """The load of the machine over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else [float("nan")] * 3


def commit() -> str:
    """The commit that is measured, with -dirty where files differ from it; empty without git."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def as_json(row: Row) -> dict[str, Any]:
    """A row as plain data, with its verdict."""
    return asdict(row) | {"met": row.met}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a results file beside its place, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)

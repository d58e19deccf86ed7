"""What the table of trainings says of the options of a kind, as a part of its page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from denoise.config import catalog

SUMMARY = catalog.CONF.parent / "experiments" / "summary.jsonl"

ABOUT = """\
{configs} configs drawn over the whole space, each trained twice with another seed: the smallest U-Net on digits,
{steps} steps ([experiments/README.md](../../experiments/README.md)). *place*: where configs with the option end among
all, 0 the best and 1 the worst, what the other kinds' choices do taken out by least squares, and a 95 % interval,
without regard to how many options are compared; *best tenth*: how many of its configs are among the best tenth of all.
Everything is drawn there, learning rates too: it says which options are easy to do well with, not which is best after
tuning."""


def read(path: Path = SUMMARY) -> dict[str, Any]:
    """The summary that `python -m experiments.search_evidence.options` wrote, its rows by kind; empty without one."""
    try:
        head, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        kinds: dict[str, list[Any]] = {}
        for row in rows:
            kinds.setdefault(row["kind"], []).append(row)
        return {"configs": head["configs"], "steps": head["steps"], "kinds": kinds}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def section(kind: str, found: Mapping[str, Any]) -> list[str]:
    """The kind's options by their place; nothing where nothing is known of two of them."""
    rows = found.get("kinds", {}).get(kind, [])
    if len(rows) < 2:
        return []
    lines = ["## In trainings", "", ABOUT.format(configs=f"{found['configs']:,}", steps=found["steps"]), ""]
    lines += ["| option | place | 95 % interval | best tenth | failed |", "|---|---|---|---|---|"]
    for row in rows:
        low, high = row["interval_95"]
        place = f"{row['place']:.2f} | {max(0.0, low):.2f} to {min(1.0, high):.2f}"
        counts = f"{row['best_tenth']} of {row['configs']} | {row['failed'] or ''}"
        lines.append(f"| [{row['option']}](#{row['option']}) | {place} | {counts} |")
    return [*lines, ""]

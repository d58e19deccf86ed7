"""Tables as JSON lines: a head that says where and when, then one record a line."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments" / "results"
SUMMARY = ROOT / "experiments" / "summary.jsonl"  # the one file of this folder that search/ reads


def write(path: Path, head: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> None:
    """Write a table beside its place, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    lines = (json.dumps(record, separators=(",", ":"), ensure_ascii=False) for record in (head, *records))
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head and the records of a table; both are empty where the file is missing."""
    head, *records = lines(path) or [{}]
    return head, records


def lines(path: Path) -> list[dict[str, Any]]:
    """Every record of a file without a head; a line that a kill tore is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line, on a new line even after a torn one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and not path.read_bytes().endswith((b"\n",)) and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(record) + "\n")


def named(records: Mapping[str, Mapping[str, Any]], key: str = "name") -> list[dict[str, Any]]:
    """Records with their names in front."""
    return [{key: name, **record} for name, record in records.items()]

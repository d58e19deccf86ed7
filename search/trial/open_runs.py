"""Trainings that a killed process of this machine has left open in MLflow, closed when the next one begins."""

import json
import os
from contextlib import suppress
from typing import Any

from denoise.errors import UserError
from search.runtime import watchdog
from search.tracking.record import tag
from search.tracking.tags import Tag
from search.tracking.tracker import Tracker

ROLES = ("train", "reproduce")  # what no command resumes


def mark() -> dict[str, str]:
    """The tag of a run that this process trains."""
    return {
        Tag.PROCESS: json.dumps({"host": os.uname().nodename} | {name: str(v) for name, v in watchdog.this().items()})
    }


def close(tracker: Tracker) -> None:
    """Close as KILLED what is open and whose process, of this machine, has ended."""
    for run in (run for role in ROLES for run in tracker.find(**{Tag.ROLE: role})):
        if run.info.status == "RUNNING" and _ended(run):
            tracker.client.set_terminated(run.info.run_id, "KILLED")


def _ended(run: Any) -> bool:
    with suppress(UserError, ValueError):
        who = tag(run.info.run_id, run.data.tags, Tag.PROCESS, dict, {})
        if who.get("host") == os.uname().nodename:
            return watchdog.began(int(who.get("pid", ""))) != who.get("began")
    return False

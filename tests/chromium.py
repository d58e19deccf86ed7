"""Chromium by its command line: whether it is here and shows a page, and a page as it is printed."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.process import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), "")
WHY_NOT = "" if PROGRAM else "no Chromium here (Debian: apt-get install chromium)"
LOADS = 60_000  # milliseconds of a page's own time, which stands while something is fetched


def works() -> bool:
    """Whether it shows a page on this machine at all."""
    try:
        return "here" in _run("data:text/html,here", "--dump-dom")
    except (OSError, subprocess.SubprocessError):
        return False


def pdf(address: str, path: Path) -> Path:
    """The page as it is printed."""
    _run(address, f"--print-to-pdf={path}", "--no-pdf-header-footer")
    return path


def _run(address: str, *arguments: str) -> str:
    command = [PROGRAM, "--headless", "--disable-gpu", f"--virtual-time-budget={LOADS}", "--window-size=1400,900"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run([*command, *arguments, address], capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout

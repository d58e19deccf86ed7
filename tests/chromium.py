"""Pages as headless Chromium shows them: what stands on one, and pictures of it."""

import html
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.process import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), "")
WHY_NOT = "" if PROGRAM else "no Chromium here (Debian: apt-get install chromium)"
LOADS = 60_000  # milliseconds of a page's own time, which stands while something is fetched
TRIES = 5  # of a page that a busy machine has not made in that time
DARK = "--blink-settings=preferredColorScheme=0"


def dom(address: str, awaits: str = "") -> str:
    """The page's elements, as its scripts have made them; asked again where what it `awaits` is not there yet."""
    for _ in range(TRIES):
        page = _run(address, "--dump-dom")
        if awaits in text(page):
            break
    return page


def works() -> bool:
    """Whether it shows a page on this machine at all."""
    try:
        return "here" in _run("data:text/html,here", "--dump-dom")
    except (OSError, subprocess.SubprocessError):
        return False


def text(page: str) -> str:
    """The words that stand on a page, without its scripts and styles."""
    bare = re.sub(r"<(script|style|noscript)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def picture(address: str, path: Path, width: int = 1400, height: int = 900, *more: str) -> Path:
    """A PNG of the window."""
    _run(address, f"--screenshot={path}", f"--window-size={width},{height}", "--hide-scrollbars", *more)
    return path


def pdf(address: str, path: Path) -> Path:
    """The page as it is printed."""
    _run(address, f"--print-to-pdf={path}", "--no-pdf-header-footer")
    return path


def _run(address: str, *arguments: str) -> str:
    command = [PROGRAM, "--headless", "--disable-gpu", f"--virtual-time-budget={LOADS}", "--window-size=1400,900"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run([*command, *arguments, address], capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout

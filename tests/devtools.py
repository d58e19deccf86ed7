"""A page in headless Chromium led by its DevTools protocol: when something stands there, what was asked for."""

import base64
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chromium import PROGRAM

PATIENCE = 60.0  # seconds; what does not stand on a page then never will

POLL_SECONDS = 0.02
TO, FROM = 3, 4  # Chromium's file descriptors of --remote-debugging-pipe
OPTIONS = ("--headless", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "--hide-scrollbars")
# MLflow's pages name an emoji font before any other that is here; it has digits and spaces, wide ones
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<include>/etc/fonts/fonts.conf</include>
<selectfont><rejectfont><pattern><patelt name="family"><string>Noto Color Emoji</string></patelt></pattern></rejectfont>
</selectfont></fontconfig>"""
# a new browser opens MLflow's assistant beside its first page
SEEN = "try { localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true' } catch (error) {}"


@dataclass
class Answer:
    """What was asked for, with which body, and the bytes of the answer as they were sent."""

    address: str
    body: str = ""
    size: int = 0


@dataclass
class Page:
    """A page of a browser. Errors: RuntimeError for what the browser refuses, TimeoutError for what does not come."""

    to: int
    back: int
    session: str = ""
    number: int = 0
    unread: bytes = b""
    answers: dict[str, Answer] = field(default_factory=dict)

    def call(self, method: str, **given: Any) -> Any:
        """Call a method of the protocol."""
        self.number += 1
        words = {"id": self.number, "method": method, "params": given}
        words |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(words).encode() + b"\0")
        while (message := self._message()).get("id") != self.number:
            self._note(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error'].get('message')}")
        return message["result"]

    def open(self, address: str, awaits: str = "true") -> float:
        """Go to an address; seconds until the JavaScript expression `awaits` is true there."""
        self.call("Page.navigate", url="about:blank")  # an address that differs in its # alone loads nothing
        self.until("location.href == 'about:blank'")
        self.answers.clear()
        began = time.perf_counter()
        self.call("Page.navigate", url=address)
        self.until(awaits)
        return time.perf_counter() - began

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is on the page; None where it fails."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression: str) -> float:
        """Seconds until a JavaScript expression is true."""
        began = time.perf_counter()
        while self.value(expression) is not True:
            if time.perf_counter() - began > PATIENCE:
                raise TimeoutError(f"not so after {PATIENCE:.0f} s: {expression}; the page: {self.text()[:2000]}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - began

    def text(self) -> str:
        """The words that are to be seen."""
        return " ".join(str(self.value("document.body.innerText")).split())

    def html(self) -> str:
        """The page's elements as they are now."""
        return str(self.value("document.documentElement.outerHTML"))

    def click(self, element: str) -> None:
        """Press the mouse in the middle of the element that a JavaScript expression is."""
        x, y = self.value(f"(b => [b.x + b.width / 2, b.y + b.height / 2])(({element}).getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def size(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, kind: str = "", scheme: str = "light") -> None:
        """Show it as on paper (`print`), or to those who like it dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def picture(self, path: Path) -> Path:
        """A PNG of what is to be seen."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return path

    def _message(self) -> Any:
        while b"\0" not in self.unread:
            if not select.select([self.back], [], [], PATIENCE)[0] or not (more := os.read(self.back, 1 << 20)):
                raise TimeoutError("the browser does not answer")
            self.unread += more
        text, _, self.unread = self.unread.partition(b"\0")
        return json.loads(text)

    def _note(self, message: Any) -> None:
        given = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            asked = given["request"]
            self.answers[given["requestId"]] = Answer(asked["url"], asked.get("postData", ""))
        if message.get("method") == "Network.loadingFinished" and given["requestId"] in self.answers:
            self.answers[given["requestId"]].size = int(given["encodedDataLength"])


@contextmanager
def page() -> Iterator[Page]:
    """A page of 1400x900 in a browser that has seen nothing but MLflow's assistant; it ends with the block."""
    home = Path(tempfile.mkdtemp(prefix="chromium-"))
    (home / "fonts.conf").write_text(FONTS)
    process, to, back = _start(home)
    found = Page(to, back)
    try:
        target = found.call("Target.createTarget", url="about:blank")["targetId"]
        found.session = found.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for area in ("Page", "Runtime", "Network"):
            found.call(f"{area}.enable")
        found.call("Page.addScriptToEvaluateOnNewDocument", source=SEEN)
        found.size(1400, 900)
        yield found
    finally:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(to)
        os.close(back)
        shutil.rmtree(home, ignore_errors=True)


def _start(home: Path) -> tuple[int, int, int]:
    """Begin a browser with its own folder: its process, and the ends of the pipes to it and from it."""
    (theirs_in, to), (back, theirs_out) = os.pipe(), os.pipe()
    far = [os.dup(each) for each in (theirs_in, theirs_out)]  # not 3 or 4 themselves
    files: list[Any] = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    files += [(os.POSIX_SPAWN_DUP2, far[0], TO), (os.POSIX_SPAWN_DUP2, far[1], FROM)]
    command = [PROGRAM, *OPTIONS, f"--user-data-dir={home}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    env = {**os.environ, "FONTCONFIG_FILE": str(home / "fonts.conf")}
    process = os.posix_spawn(PROGRAM, command, env, file_actions=files, setsid=True)
    for each in (theirs_in, theirs_out, *far):
        os.close(each)
    return process, to, back

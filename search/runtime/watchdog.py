"""Processes that train are watched from outside: one that dies or stands still at a trial is noticed, and replaced.

The process of a search is watched by the small one that was typed, which imports nothing and stays; those beside it are
watched by the process that started them. What is watched says when it begins a trial, and then that it gets on.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from denoise.interruption import ENDS
from search.runtime.startup import leave

BEAT_SECONDS = 1.0  # so often, at most, it is said that a training gets on
LOOK_SECONDS = 0.5  # so often a watcher looks
GRACE_SECONDS = 10.0  # a trial that is over its time has so long to end itself
GONE_SECONDS = 20.0  # a process that is told to end has so long
OUTSIDE = 2  # so many deaths outside of a trial, one after the other, end a search
OVER, SILENT = "over search.caps.seconds", "over search.silence"  # why a training is ended
FLAG = "--worker"  # what makes a worker of a command
INTERRUPTED = 130

Death = dict[str, Any]  # pid, began: which process; how it ended; counts: whether it may be its trial's fault


class Voice:
    """What this process says to its watcher."""

    def __init__(self, say: Callable[[Any], None] = lambda what: None) -> None:
        self.say = say
        self.said = 0.0
        self.silence: float | None = None  # a training may be silent for so long
        self.waited = 0.0  # seconds in all

    @contextmanager
    def at(self, what: str, seconds: float | None = None, trial: bool = False) -> Iterator[None]:
        """Within, a training runs, which may take so many seconds."""
        self.said = time.monotonic()
        self.say({"at": what, "seconds": seconds, "silence": self.silence, "trial": trial})
        try:
            yield
        finally:
            self.say({"at": ""})

    def beat(self) -> None:
        """The training gets on."""
        now = time.monotonic()
        if now - self.said >= BEAT_SECONDS:
            self.said = now
            self.say({})

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, the training waits for something else: that is no silence, and no time of its own."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self.waited += seconds
            self.say({"waited": seconds})

    def leaves(self, status: int) -> None:
        """This process ends, with this exit status, because it means to."""
        self.say({"leaves": status})


voice = Voice()  # of this process
watcher: dict[str, Any] = {}  # pid and begin of who watches this process; empty where none does
deaths: list[Death] = []  # of those that did this process's work before it


def listened_to(by: dict[str, Any], say: Callable[[Any], None]) -> None:
    """From here on this process is watched by another one, which takes what it says by `say`."""
    voice.say = say
    watcher.update(by)


def this() -> dict[str, Any]:
    """This process: pid and when it began."""
    return {"pid": os.getpid(), "began": began(os.getpid())}


class Watched:
    """What is known of a process from what it says: at which training it is, since when, when it was last heard."""

    def __init__(self, pid: int) -> None:
        self.who = {"pid": pid, "began": began(pid)}
        self.at = ""
        self.trial = False  # whether that is a trial, whose deaths are counted
        self.seconds: float | None = None
        self.silence: float | None = None
        self.since = self.heard = self.looked = time.monotonic()
        self.left = False
        self.why = ""

    def hear(self, said: dict[str, Any]) -> None:
        """Take what it says."""
        self.heard = time.monotonic()
        self.left = self.left or "leaves" in said
        self.since += said.get("waited", 0.0)
        if "at" in said:
            self.at, self.since, self.trial = said["at"], self.heard, said.get("trial", False)
            self.seconds, self.silence = said.get("seconds"), said.get("silence")

    def look(self) -> bool:
        """Tell whether it is to be ended, and keep why: its training is over its time, or stands still."""
        now = time.monotonic()
        gap, self.looked = now - self.looked, now
        if gap > 10 * LOOK_SECONDS:  # who looks stood still itself, as when a machine sleeps or a shell stops a job
            self.since, self.heard = self.since + gap, self.heard + gap
        if not self.at or self.why:
            return False
        if self.seconds is not None and now - self.since > self.seconds + GRACE_SECONDS:
            self.why = f"{OVER}={self.seconds:g}: it did not end itself"
        elif self.silence is not None and now - self.heard > self.silence:
            self.why = f"{SILENT}={self.silence:g}: no step in that time"
        return bool(self.why)

    def death(self, status: int) -> Death:
        """How it ended, for the process that takes its trial; `counts` where it was not asked to end."""
        return self.who | {"counts": not self.left and self.trial, "how": self.why or how(status)}


def began(pid: int) -> str:
    """When a process began, since pids come again; "ended" where it has and its parent has not asked how."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return fields[19] if fields[0] not in "ZX" else "ended"
    except (OSError, IndexError):
        return ""


def how(status: int) -> str:
    """How a process ended, in words; `status` as subprocess has it."""
    if status >= 0:
        return f"its process ended with exit status {status}"
    names = {each.value: each.name for each in signal.Signals}
    hint = ": no memory left, or somebody killed it" if status == -signal.SIGKILL else ""
    return f"its process was killed by {names.get(-status, f'signal {-status}')}{hint}"


def watch(work: Callable[[], int]) -> int:
    """Do the work in a process that is forked and watched from here; the exit status.

    Where it dies, or stands still and is killed, another does the work, which knows of the deaths before it. Signals
    that ask this process to end are handed on, and where this one is killed the other ends too.
    """
    outside = 0
    while True:
        with Forked(work) as forked:
            status = forked.follow()
        seen = forked.seen
        if seen.left or forked.asked:
            return status if seen.left else INTERRUPTED
        outside = 0 if seen.trial else outside + 1
        said = f"{seen.at or 'the search'}: {seen.why or how(status)}"
        if outside == OUTSIDE:
            print(f"{said}; that is the second time, so it ends here", file=sys.stderr)
            return 1
        print(f"{said}; another process continues", file=sys.stderr)
        deaths.append(seen.death(status))


class Forked:
    """A process that does the work: a pipe by which it is heard, and one that tells it of this one's end."""

    def __init__(self, work: Callable[[], int]) -> None:
        self.asked = 0.0  # when it was asked to end
        self.buffer = b""
        life, said = os.pipe(), os.pipe()
        self.before = {end: signal.getsignal(end) for end in ENDS}
        self.pid = 0  # until it is there, nothing is handed on
        for end in ENDS:
            if self.before[end] is not signal.SIG_IGN:
                signal.signal(end, self._hand_on)
        watching = this()
        self.pid = os.fork()
        if self.pid == 0:
            self._restore()
            os.close(life[1])
            os.close(said[0])
            _live(watching, life[0], said[1])
            leave(whole(work))
        os.close(life[0])
        os.close(said[1])
        self.life, self.said = life[1], said[0]
        self.seen = Watched(self.pid)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()
        os.close(self.life)
        os.close(self.said)

    def follow(self) -> int:
        """Watch it until it ends; its status, as subprocess has it."""
        while True:
            if select.select([self.said], [], [], LOOK_SECONDS)[0]:
                content = os.read(self.said, 65536)
                if not content:
                    break
                self._hear(content)
            elif os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break  # what it began itself may keep the pipe open
            late = self.asked and time.monotonic() - self.asked > GONE_SECONDS
            if self.seen.look() or late:
                os.kill(self.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if not self.seen.left and sys.stdout.isatty():
            print("\x1b[?25h", end="", flush=True)  # the cursor, which a live picture hides
        return status

    def _hear(self, content: bytes) -> None:
        *lines, self.buffer = (self.buffer + content).split(b"\n")
        for line in lines:
            self.seen.hear(json.loads(line))

    def _hand_on(self, number: int, frame: Any) -> None:
        if self.pid:
            self.asked = self.asked or time.monotonic()
            os.kill(self.pid, number)

    def _restore(self) -> None:
        for end, handler in self.before.items():
            signal.signal(end, handler)


def _live(watching: dict[str, Any], life: int, said: int) -> None:
    """Be watched: say what is said by a pipe, and end where the watcher has."""

    def end_with_it() -> None:
        os.read(life, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    def say(what: Any) -> None:
        with suppress(OSError):
            os.write(said, json.dumps(what).encode() + b"\n")

    threading.Thread(target=end_with_it, daemon=True).start()
    listened_to(watching, say)


def whole(work: Callable[[], int]) -> int:
    """Do the work, and say that it ends because it means to, even by an error."""
    status = 1
    try:
        status = work()
    finally:
        voice.leaves(status)
    return status

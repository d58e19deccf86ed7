"""The processes that train beside this one: started, told to begin, shown, replaced where one dies."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Any

from denoise.fault import of_the_world
from search.console.printed_commands import hand_over
from search.report.progress import Display
from search.runtime import watchdog

SHOWN = ("trial_starts", "progress", "trial_ends")  # of a worker that is told, with its number
REPLACED = 3  # so many workers that die are replaced
LAST_SECONDS = 2.0  # what one that ended said last is heard within
END_SECONDS = 20.0  # a worker that is told to end is killed after so long

Order = dict[str, Any]


class Member:
    """One process. begun: it may begin trials; searching: it has trials to begin or to end; order: what it works at."""

    def __init__(self, number: int, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self.number, self.process, self.errors = number, process, errors
        self.seen = watchdog.Watched(process.pid)
        self.begun = self.searching = False
        self.order = -1

    def tell(self, what: Any) -> bool:
        """Write it a line; False where it has ended."""
        try:
            self.process.stdin.write(json.dumps(what) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            return False
        return True


class Crew:
    """Processes beside this one that do the same command; their imports take seconds, so they start before its own.

    Everything that a thread of a member's touches is touched under `changed`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.display: Display | None = None  # of whoever begins
        self.unsaid: list[str] = []  # notes from before there was a display
        self.search = ""
        self.changed = threading.Condition()
        self.members: list[Member] = []
        self.trained = 0.0  # seconds of training and evaluating, of all members
        self.wanted = 0
        self.died = 0
        self.closing = False
        self.error: Exception | None = None  # of a member's thread
        self.note_death: Callable[[watchdog.Death], None] = lambda death: None  # where the search keeps them
        self.orders: Sequence[Order] = ()
        self.left: deque[int] = deque()
        self.found: dict[int, Any] = {}

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.changed:
            self.closing, members = True, list(self.members)
        for member in members:
            with suppress(OSError):
                member.process.stdin.close()  # type: ignore[union-attr]
            if not member.begun:
                member.process.terminate()
        for member in members:
            try:
                member.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()

    def resize(self, count: int) -> None:
        """Have so many members: start those that are missing, end those that are too many and have not begun."""
        with self.changed:
            self.wanted = count
            there = {member.number for member in self.members}
            for member in self.members:
                if member.number > count and not member.begun:
                    member.process.terminate()
            for number in range(1, count + 1):
                if number not in there:
                    self._start(number)

    def show(self, display: Display) -> None:
        """Show from here on what members do, first what was to be said of them before."""
        with self.changed:
            self.display, unsaid, self.unsaid = display, self.unsaid, []
        for text in unsaid:
            display.note(text)

    def begin(self, search: str) -> None:
        """Let them train in the search of this name: its stores are open."""
        with self.changed:
            if not self.search:
                threading.Thread(target=self._look, daemon=True).start()
            self.search = search
            for member in self.members:
                self._begin(member)

    def wait(self) -> None:
        """Wait until no member has a trial to begin or to end."""
        with self.changed:
            self._until(lambda: not any(member.searching for member in self.members))

    def share(self, orders: Sequence[Order], own: Callable[[Order], Any]) -> list[Any]:
        """What each order gave, in their order; those that no member takes are done here, by `own`."""
        with self.changed:
            self.orders, self.left, self.found = orders, deque(range(len(orders))), {}
            for member in self.members:
                self._hand_out(member)
        while True:
            with self.changed:
                self._until(lambda: bool(self.left) or len(self.found) == len(orders))
                if len(self.found) == len(orders):
                    return [self.found[place] for place in range(len(orders))]
                place = self.left.popleft()
            answer = own(orders[place])
            with self.changed:
                self.found[place] = answer

    def _look(self) -> None:
        """End members whose training stands still, while there are any."""
        while True:
            with self.changed:
                if self.closing:
                    return
                for member in self.members:
                    if member.seen.look():
                        member.process.kill()
            time.sleep(watchdog.LOOK_SECONDS)

    def _until(self, holds: Callable[[], bool]) -> None:
        self.changed.wait_for(lambda: self.error is not None or holds())
        if self.error is not None:
            raise self.error

    def _begin(self, member: Member) -> None:
        if not member.begun:
            member.begun = member.searching = member.tell({"search": self.search, "watcher": watchdog.this()})

    def _start(self, number: int) -> Member:
        errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # lives as long as the process
        arguments, environment = hand_over([*self.command, watchdog.FLAG])
        process = subprocess.Popen(
            [sys.executable, "-m", "search", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        )
        member = Member(number, process, errors)
        self.members.append(member)
        threading.Thread(target=self._follow, args=(member,), daemon=True).start()
        return member

    def _hand_out(self, member: Member) -> None:
        if not member.begun or member.searching or member.order >= 0 or not self.left:
            return
        if member.tell(self.orders[self.left[0]]):
            member.order = self.left.popleft()

    def _follow(self, member: Member) -> None:
        """Hear a member until it ends. What it began itself may keep its output open: that is not waited for."""
        hearing = threading.Thread(target=self._hear, args=(member,), daemon=True)
        hearing.start()
        status = member.process.wait()
        hearing.join(LAST_SECONDS)
        self._ended(member, status)

    def _hear(self, member: Member) -> None:
        assert member.process.stdout is not None
        for line in member.process.stdout:
            self._take(member, line)

    def _take(self, member: Member, line: str) -> None:
        """Take what a member says; of what else it prints, or was killed while it said it, nothing."""
        try:
            what, *said = json.loads(line)
        except (ValueError, TypeError):
            return
        if what in SHOWN:
            self._show(what, *said, worker=member.number)
            return
        if what == "note":
            self._show(what, *said)
            return
        with self.changed:
            if what == "heard":
                member.seen.hear(said[0])
                return
            if what == "idle":
                member.searching = False
                self.trained += said[0]
            elif what == "done":
                self.found[member.order], member.order = said[0], -1
            self._hand_out(member)
            self.changed.notify_all()

    def _show(self, what: str, *said: Any, **more: Any) -> None:
        try:
            if self.display is not None:
                getattr(self.display, what)(*said, **more)
        except Exception as error:  # who reads has gone
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Keep an error for the thread that waits."""
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def _note(self, death: watchdog.Death) -> None:
        """Note how a member ended, tried again while the storage does not answer: its trial is not taken up before."""
        while not self.closing:
            try:
                self.note_death(death)
                return
            except Exception as error:
                if not of_the_world(error):
                    self._fail(error)
                    return
            time.sleep(watchdog.LOOK_SECONDS)

    def _ended(self, member: Member, status: int) -> None:
        member.errors.seek(0)
        last = (member.errors.read().strip().splitlines() or [""])[-1][:200]
        member.errors.close()
        said, seen = "", member.seen
        died = bool(seen.at) and not seen.left  # at a training; 0 and 130 are of one that means to end otherwise
        if seen.at and seen.trial:
            self._note(seen.death(status))
        with self.changed:
            self.members.remove(member)
            if member.order >= 0:
                self.left.appendleft(member.order)
            if not self.closing and member.number <= self.wanted and (died or status not in (0, 130)):
                self.died += not seen.trial  # at a trial only so many die as there are trials
                why = f"{seen.at}: {seen.why or watchdog.how(status)}" if died else ""
                said = f"worker {member.number} ended with {status}{f' ({why or last})' if why or last else ''}: "
                said += "another takes its place" if self._replaced(member) else "the others go on"
            self.changed.notify_all()
            if said and self.display is None:
                self.unsaid.append(said)
        if said:
            self._show("dropped", member.number)
            self._show("note", said)

    def _replaced(self, member: Member) -> bool:
        if self.died > REPLACED or (member.begun and not member.searching):
            return False
        try:
            new = self._start(member.number)
        except OSError:
            return False
        if self.search:
            self._begin(new)
        return True

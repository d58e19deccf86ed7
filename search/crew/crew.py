"""The processes that train beside this one: started, told to begin, shown, replaced where one dies."""

import json
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Any

from search.display import Display

FLAG = "--beside"  # what makes a worker of a command
SHOWN = ("trial_starts", "progress", "trial_ends")
REPLACED = 3  # so many workers that die are replaced
END_SECONDS = 20.0  # a worker that is told to end is killed after so long

Order = dict[str, Any]


class Member:
    """One process. begun: it may begin trials; searching: it has trials to begin or to end; order: what it works at."""

    def __init__(self, number: int, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self.number, self.process, self.errors = number, process, errors
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
    """`count` processes beside this one that do the same command; their imports take seconds, so they start at once.

    Everything that a thread of a member's touches is touched under `changed`.
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        self.command = list(command)
        self.display: Display | None = None  # of whoever begins
        self.changed = threading.Condition()
        self.members: list[Member] = []
        self.trained = 0.0  # seconds of training and evaluating, of all members
        self.died = 0
        self.closing = False
        self.error: Exception | None = None  # of showing what a member says
        self.orders: Sequence[Order] = ()
        self.left: deque[int] = deque()
        self.found: dict[int, Any] = {}
        for number in range(1, count + 1):
            self._start(number)

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

    def begin(self) -> None:
        """Let them train: the stores are open."""
        with self.changed:
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

    def _until(self, holds: Callable[[], bool]) -> None:
        self.changed.wait_for(lambda: self.error is not None or holds())
        if self.error is not None:
            raise self.error

    def _begin(self, member: Member) -> None:
        if not member.begun:
            member.begun = member.searching = member.tell("begin")

    def _start(self, number: int) -> Member:
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # lives as long as the process
        process = subprocess.Popen(
            [sys.executable, "-m", "search", *self.command, FLAG],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        member = Member(number, process, errors)
        self.members.append(member)
        threading.Thread(target=self._listen, args=(member,), daemon=True).start()
        return member

    def _hand_out(self, member: Member) -> None:
        if not member.begun or member.searching or member.order >= 0 or not self.left:
            return
        if member.tell(self.orders[self.left[0]]):
            member.order = self.left.popleft()

    def _listen(self, member: Member) -> None:
        assert member.process.stdout is not None
        for line in member.process.stdout:
            if not line.endswith("\n"):  # killed while it spoke
                break
            what, *said = json.loads(line)
            if what in SHOWN:
                self._show(what, *said, worker=member.number)
                continue
            with self.changed:
                if what == "idle":
                    member.searching = False
                    self.trained += said[0]
                elif what == "done":
                    self.found[member.order], member.order = said[0], -1
                self._hand_out(member)
                self.changed.notify_all()
        self._ended(member)

    def _show(self, what: str, *said: Any, **more: Any) -> None:
        try:
            if self.display is not None:
                getattr(self.display, what)(*said, **more)
        except Exception as error:  # who reads has gone: for the thread that waits
            with self.changed:
                self.error = error
                self.changed.notify_all()

    def _ended(self, member: Member) -> None:
        status = member.process.wait()
        with self.changed:
            self.members.remove(member)
            if member.order >= 0:
                self.left.appendleft(member.order)
            if not self.closing and status not in (0, 130):
                self.died += 1
                again = (member.searching or not member.begun) and self.died <= REPLACED
                member.errors.seek(0)
                last = (member.errors.read().strip().splitlines() or [""])[-1]
                said = f"worker {member.number} ended with {status}{f' ({last[:200]})' if last else ''}"
                self._show("dropped", member.number)
                self._show("note", f"{said}: {'another takes its place' if again else 'the others go on'}")
                if again:
                    new = self._start(member.number)
                    if member.begun:
                        self._begin(new)
            member.errors.close()
            self.changed.notify_all()

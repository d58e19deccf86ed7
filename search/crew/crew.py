"""The processes that train beside this one: started when there is work, shown, replaced where one dies."""

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
    """One process. searching: it has trials to begin or to end; order: the place of the one that it works at, or -1."""

    def __init__(self, number: int, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self.number, self.process, self.errors = number, process, errors
        self.searching, self.order = True, -1


class Crew:
    """`count` processes beside this one that do the same command; none is there before it is needed.

    Everything that a thread of a member's touches is touched under `changed`.
    """

    def __init__(self, command: Sequence[str], count: int, display: Display) -> None:
        self.command, self.count, self.display = list(command), count, display
        self.changed = threading.Condition()
        self.members: list[Member] = []
        self.trained = 0.0  # seconds of training and evaluating, of all members
        self.died = 0
        self.closing = False
        self.orders: Sequence[Order] = ()
        self.left: deque[int] = deque()
        self.found: dict[int, Any] = {}

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.changed:
            self.closing = True
        for member in self.members:
            with suppress(OSError):
                member.process.stdin.close()  # type: ignore[union-attr]
        for member in self.members:
            try:
                member.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()

    def start(self) -> None:
        """Start those that are not there yet."""
        with self.changed:
            while len(self.members) < self.count:
                self._begin(len(self.members) + 1)

    def wait(self) -> None:
        """Wait until no member has a trial to begin or to end."""
        with self.changed:
            self.changed.wait_for(lambda: not any(member.searching for member in self.members))

    def share(self, orders: Sequence[Order], own: Callable[[Order], Any]) -> list[Any]:
        """What each order gave, in their order; those that no member takes are done here, by `own`."""
        with self.changed:
            self.orders, self.left, self.found = orders, deque(range(len(orders))), {}
            for member in self.members:
                self._hand_out(member)
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.left or len(self.found) == len(orders))
                if len(self.found) == len(orders):
                    return [self.found[place] for place in range(len(orders))]
                place = self.left.popleft()
            answer = own(orders[place])
            with self.changed:
                self.found[place] = answer

    def _begin(self, number: int) -> None:
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

    def _hand_out(self, member: Member) -> None:
        if member.searching or member.order >= 0 or not self.left:
            return
        place = self.left.popleft()
        try:
            member.process.stdin.write(json.dumps(self.orders[place]) + "\n")  # type: ignore[union-attr]
            member.process.stdin.flush()  # type: ignore[union-attr]
            member.order = place
        except OSError:  # it has ended
            self.left.appendleft(place)

    def _listen(self, member: Member) -> None:
        assert member.process.stdout is not None
        for line in member.process.stdout:
            what, *said = json.loads(line)
            if what in SHOWN:
                getattr(self.display, what)(*said, worker=member.number)
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

    def _ended(self, member: Member) -> None:
        status = member.process.wait()
        with self.changed:
            self.members.remove(member)
            if member.order >= 0:
                self.left.appendleft(member.order)
            if not self.closing and status not in (0, 130):
                self.died += 1
                again = member.searching and self.died <= REPLACED
                member.errors.seek(0)
                last = (member.errors.read().strip().splitlines() or [""])[-1]
                said = f"worker {member.number} ended with {status}{f' ({last[:200]})' if last else ''}"
                self.display.dropped(member.number)
                self.display.note(f"{said}: {'another takes its place' if again else 'the others go on'}")
                if again:
                    self._begin(member.number)
            self.changed.notify_all()

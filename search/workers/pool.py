"""The processes that train beside this one: started, told to begin, shown, replaced where one dies."""

import json
import subprocess
import sys
import tempfile
import threading
import time
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


class Worker:
    """One process. begun: it may begin trials; searching: it has trials to begin or to end."""

    def __init__(self, number: int, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self.number, self.process, self.errors = number, process, errors
        self.seen = watchdog.Watched(process.pid)
        self.begun = self.searching = False

    def tell(self, what: Any) -> bool:
        """Write it a line; False where it has ended."""
        try:
            self.process.stdin.write(json.dumps(what) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            return False
        return True


class WorkerPool:
    """Processes beside this one that do the same command; their imports take seconds, so they start before its own.

    Everything that a thread of a worker's touches is touched under `changed`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.display: Display | None = None  # of the search that begins
        self.unsaid: list[str] = []  # notes from before there was a display
        self.search = ""
        self.changed = threading.Condition()
        self.workers: list[Worker] = []
        self.trained = 0.0  # seconds of training and evaluating, of all workers
        self.wanted = 0
        self.died = 0
        self.closing = False
        self.error: Exception | None = None  # of a worker's thread
        self.note_death: Callable[[watchdog.Death], None] = lambda death: None  # where the search keeps them

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.changed:
            self.closing, workers = True, list(self.workers)
        for worker in workers:
            with suppress(OSError):
                worker.process.stdin.close()  # type: ignore[union-attr]
            if not worker.begun:
                worker.process.terminate()
        for worker in workers:
            try:
                worker.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def resize(self, count: int) -> None:
        """Have so many workers: start those that are missing, end those that are too many and have not begun."""
        with self.changed:
            self.wanted = count
            there = {worker.number for worker in self.workers}
            for worker in self.workers:
                if worker.number > count and not worker.begun:
                    worker.process.terminate()
            for number in range(1, count + 1):
                if number not in there:
                    self._start(number)

    def show(self, display: Display) -> None:
        """Show from here on what workers do, first what was to be said of them before."""
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
            for worker in self.workers:
                self._begin(worker)

    def wait(self) -> None:
        """Wait until no worker has a trial to begin or to end."""
        with self.changed:
            self.changed.wait_for(lambda: self.error is not None or not any(m.searching for m in self.workers))
        if self.error is not None:
            raise self.error

    def _look(self) -> None:
        """End workers whose training stands still, while there are any."""
        while True:
            with self.changed:
                if self.closing:
                    return
                for worker in self.workers:
                    if worker.seen.look():
                        worker.process.kill()
            time.sleep(watchdog.LOOK_SECONDS)

    def _begin(self, worker: Worker) -> None:
        if not worker.begun:
            worker.begun = worker.searching = worker.tell({"search": self.search, "watcher": watchdog.this()})

    def _start(self, number: int) -> Worker:
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
        worker = Worker(number, process, errors)
        self.workers.append(worker)
        threading.Thread(target=self._follow, args=(worker,), daemon=True).start()
        return worker

    def _follow(self, worker: Worker) -> None:
        """Hear a worker until it ends. What it began itself may keep its output open: that is not waited for."""
        hearing = threading.Thread(target=self._hear, args=(worker,), daemon=True)
        hearing.start()
        status = worker.process.wait()
        hearing.join(LAST_SECONDS)
        self._ended(worker, status)

    def _hear(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self._take(worker, line)

    def _take(self, worker: Worker, line: str) -> None:
        """Take what a worker says; of what else it prints, or was killed while it said it, nothing."""
        try:
            what, *said = json.loads(line)
        except (ValueError, TypeError):
            return
        if what in SHOWN:
            self._show(what, *said, worker=worker.number)
            return
        if what == "note":
            self._show(what, *said)
            return
        with self.changed:
            if what == "heard":
                worker.seen.hear(said[0])
                return
            if what == "idle":
                worker.searching = False
                self.trained += said[0]
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
        """Note how a worker ended, tried again while the storage does not answer: its trial is not taken up before."""
        while not self.closing:
            try:
                self.note_death(death)
                return
            except Exception as error:
                if not of_the_world(error):
                    self._fail(error)
                    return
            time.sleep(watchdog.LOOK_SECONDS)

    def _ended(self, worker: Worker, status: int) -> None:
        worker.errors.seek(0)
        last = (worker.errors.read().strip().splitlines() or [""])[-1][:200]
        worker.errors.close()
        said, seen = "", worker.seen
        died = bool(seen.at) and not seen.left  # at a training; 0 and 130 are of one that means to end otherwise
        if seen.at and seen.trial:
            self._note(seen.death(status))
        with self.changed:
            self.workers.remove(worker)
            if not self.closing and worker.number <= self.wanted and (died or status not in (0, 130)):
                self.died += not seen.trial  # at a trial only so many die as there are trials
                why = f"{seen.at}: {seen.why or watchdog.how(status)}" if died else ""
                said = f"worker {worker.number} ended with {status}{f' ({why or last})' if why or last else ''}: "
                said += "another takes its place" if self._replaced(worker) else "the others go on"
            self.changed.notify_all()
            if said and self.display is None:
                self.unsaid.append(said)
        if said:
            self._show("dropped", worker.number)
            self._show("note", said)

    def _replaced(self, worker: Worker) -> bool:
        if self.died > REPLACED or (worker.begun and not worker.searching and not worker.seen.trial):
            return False
        try:
            new = self._start(worker.number)
        except OSError:
            return False
        if self.search:
            self._begin(new)
        return True

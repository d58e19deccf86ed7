"""A process beside another one that searches: it begins trials while there are any, then trainings that confirm."""

import json
import os
import queue
import signal
import sys
import threading
from typing import Any

from denoise.errors import UserError
from denoise.interruption import Interrupted
from denoise.metrics import TRAIN_LOSS
from search.confirmation import study
from search.runtime import watchdog
from search.study import loop
from search.study.spec import Search

END_SECONDS = 15.0  # after the starter's end a training that does not let itself be interrupted has so long


class Relay:
    """A display that says to the starter what it is told, a line a call. Errors: Interrupted once it is gone."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what else is printed is no message

    def say(self, what: str, *given: Any) -> None:
        """Write one message."""
        try:
            self.out.write(json.dumps([what, *given]) + "\n")
        except BrokenPipeError:
            raise Interrupted from None

    def trial_starts(self, trial: int | None, difference: str) -> None:
        self.say("trial_starts", trial, difference)

    def progress(self, step: int, max_steps: int, metrics: dict[str, float]) -> None:
        self.say("progress", step, max_steps, {k: v for k, v in metrics.items() if k == TRAIN_LOSS})

    def trial_ends(self, outcome: str, step: int, value: float | None, rate: float | None, failure: str = "") -> None:
        self.say("trial_ends", outcome, step, value, rate, failure)

    def note(self, text: str) -> None:
        self.say("note", text)

    def phase(self, title: str, total: int) -> None:
        """Nothing: that, the starter says."""


class Starter:
    """Who started this process: says when it may begin; once it is gone a training that runs is interrupted."""

    def __init__(self) -> None:
        self.lines: queue.Queue[str] = queue.Queue()
        self.gone, self.waited_for = threading.Event(), threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self.lines.put(line)
        self.gone.set()
        self.lines.put("null")
        if not self.waited_for.is_set():
            os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(END_SECONDS, os._exit, (130,)).start()

    def begins(self) -> Any:
        """Wait for what it says; None where it ends before."""
        self.waited_for.set()
        line = self.lines.get()
        self.waited_for.clear()
        return json.loads(line)

    def ends(self, seconds: float) -> bool:
        """Wait so long for its end; whether it has come."""
        self.waited_for.set()
        ended = self.gone.wait(seconds)
        self.waited_for.clear()
        return ended


def work(search: Search) -> int:
    """Train trials until none is left, then trainings of the confirmation, until the starter ends."""
    relay, starter = Relay(), Starter()
    if (begin := starter.begins()) is None:
        return 0
    watchdog.listened_to(begin["watcher"], lambda what: relay.say("heard", what))
    if begin["search"] != search.name:
        raise UserError(f"{search.name}: another search than {begin['search']}, since what it trains with has changed")
    session = loop.join(search, *loop.open_stores(search), relay)
    while loop.next_trial(session):
        pass
    results = [one.result for one in session.trained if one.result is not None]
    relay.say("idle", sum(result.training_seconds + result.evaluating_seconds for result in results))
    while study.take_part(session.study, session.tracker, session.parent, relay) or not starter.ends(
        study.WAIT_SECONDS
    ):
        pass
    return 0

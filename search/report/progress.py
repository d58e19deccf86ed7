"""What a person sees while trainings run: a live picture on a terminal, plain lines in a pipe."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from search.console.tables import INDENT, Line, barred, wrapped

RECENT = 6  # trials that ended last stay in the picture
STYLE = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}


def clock(seconds: float) -> str:
    """Minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def number(value: float | None, digits: int = 4) -> str:
    """A figure or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


class TrialDisplay(Protocol):
    """Who shows what runs, or hands it on."""

    def trial_starts(self, trial: int | None, difference: str) -> None: ...
    def progress(self, step: int, max_steps: int, metrics: dict[str, float]) -> None: ...
    def trial_ends(
        self, outcome: str, step: int, value: float | None, rate: float | None, failure: str = ""
    ) -> None: ...
    def note(self, text: str) -> None: ...
    def phase(self, title: str, total: int) -> None: ...


@dataclass
class TrainingRow:
    """What is said of a training: `head` in columns, `rest` where there is room, `differs` below them where not."""

    head: list[str]
    rest: str
    differs: str
    style: str = ""

    def line(self) -> str:
        """All in one line."""
        return "  ".join(filter(None, [*self.head, self.rest, self.differs]))

    def render(self, width: int) -> list[Text]:
        """Lines that are no wider than `width`."""
        head = "  ".join(self.head)
        for line in (self.line(), "  ".join(filter(None, [head, self.differs]))):
            if cell_len(line) <= width:
                return [Text(line, self.style)]
        return [Text(line, self.style) for line in [*wrapped(head, width), *wrapped(self.differs, width, INDENT)]]


@dataclass
class Training:
    """One that runs: which trial (None: of no search), what differs from the baseline, how far it is."""

    trial: int | None = None
    difference: str = ""
    step: int = 0
    max_steps: int = 1
    loss: float | None = None

    def render(self, width: int) -> list[Line]:
        """How far it is, and below that what differs from the baseline."""
        title = f"trial {self.trial:>3} now" if self.trial is not None else "now"
        said = [f"step {self.step}/{self.max_steps}"]
        said.append(f"train/loss {number(self.loss)}" if self.loss is not None else "starting")
        head = barred(title, self.step, self.max_steps, said, width, 20, "cyan")
        return [*head, *map(Text, wrapped(self.difference, width, INDENT))]


class Display:
    """Show trials done of how many, what runs now and at which step, the best so far and the time left.

    `worker` says in which process a training runs: 0 is this one. It may be told from several threads.
    """

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        self.console = console or Console(markup=False)
        self.title, self.total, self.done, self.done_before = title, total, 0, 0
        self.began = time.monotonic()
        self.best: tuple[float, int | None, str] | None = None
        self.searching = True  # in the confirmation single seeds are trained, of which none is the best
        self.now: dict[int, Training] = {}
        self.recent: list[TrainingRow] = []
        self.live: Live | None = None
        self.said: set[str] = set()
        self.lock = threading.RLock()

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live = Live(get_renderable=self.render, console=self.console, refresh_per_second=2, transient=True)
            self.live.__enter__()
        else:
            self.console.print(f"{self.title}: {self.total} trial{'s' * (self.total > 1)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.__exit__(kind, error, trace)

    def note(self, text: str) -> None:
        """Say something above the picture, once; not under the lock, which who draws the picture waits for."""
        with self.lock:
            known = text in self.said
            self.said.add(text)
        if not known:
            self.console.print(Text(text))

    def continues(self, done: int, best: tuple[float, int | None, str] | None = None) -> None:
        """Say how many trials were there before, and the best of them: its value, its number, what differs."""
        with self.lock:
            self.done = self.done_before = done
            self.best = best
        if done and self.live is None:
            trials = f"{done} trial{'s' * (done > 1)} that {'are' if done > 1 else 'is'} done"
            known = f"; best so far: trial {best[1]}, val/loss {number(best[0])}, {best[2]}" if best else ""
            self.console.print(Text(f"resumes after {trials}{known}"), soft_wrap=True)

    def phase(self, title: str, total: int) -> None:
        """Begin to count anew: another part of the work, of `total` trainings at most; the search's best stays."""
        with self.lock:
            self.title, self.total, self.done, self.done_before = title, total, 0, 0
            self.began, self.recent, self.searching = time.monotonic(), [], False
        if self.live is None:
            self.console.print(f"{title}: {total} trainings at most")

    def trial_starts(self, trial: int | None, difference: str, worker: int = 0) -> None:
        """Say what runs now."""
        with self.lock:
            self.now[worker] = Training(trial, difference)

    def progress(self, step: int, max_steps: int, metrics: dict[str, float], worker: int = 0) -> None:
        """Take a training's progress."""
        with self.lock:
            now = self.now.setdefault(worker, Training())
            now.step, now.max_steps, now.loss = step, max_steps, metrics.get("train/loss", now.loss)

    def trial_ends(
        self, outcome: str, step: int, value: float | None, rate: float | None, failure: str = "", worker: int = 0
    ) -> None:
        """Say how a running trial ended."""
        with self.lock:
            now = self.now.pop(worker, Training())
            self.done += 1
            better = value is not None and (self.best is None or value < self.best[0])
            if self.searching and outcome == "complete" and value is not None and better:
                self.best = (value, now.trial, now.difference)
            who = f"trial {now.trial:>3}" if now.trial is not None else "run"
            head = [who, f"{outcome:<8}", f"step {step:>4}", f"val/loss {number(value)}"]
            speed = f"{rate:.0f} samples/s" if rate else ""
            ended = TrainingRow(
                head, speed, now.difference + (f"  ({failure})" if failure else ""), STYLE.get(outcome, "")
            )
            if self.live is None:
                ahead = f"  [{self.done}/{self.total}, {self.left()} left]"
                self.console.print(Text(ended.line() + ahead), soft_wrap=True)
            else:
                self.recent = [*self.recent[1 - RECENT :], ended]

    def dropped(self, worker: int) -> None:
        """Forget what runs in a process that has died."""
        with self.lock:
            self.now.pop(worker, None)

    def left(self) -> str:
        """The time left, from the mean trial so far."""
        ended = self.done - self.done_before
        if not ended:
            return "?"
        return clock((time.monotonic() - self.began) / ended * max(0, self.total - self.done))

    def render(self) -> Group:
        """Draw the live picture; where a screen is not high enough, without the trials that ended first."""
        with self.lock:
            width, height = self.console.size
            counts = f"{self.done}/{self.total} {'trials' if self.searching else 'trainings'}"
            times = f"{clock(time.monotonic() - self.began)} elapsed, {self.left()} left"
            head = barred(self.title, self.done, self.total, [counts, times], width, 30, "bold")
            running = [line for worker in sorted(self.now) for line in self.now[worker].render(width)]
            below = [*running, *self._best(width)]
            room, recent = height - 1 - len(head) - len(below), list[Text]()
            for entry in reversed(self.recent):
                if len(lines := entry.render(width)) + len(recent) > room:
                    break
                recent = [*lines, *recent]
            return Group(*head, *recent, *below)

    def _best(self, width: int) -> list[Text]:
        if self.best is None:
            return []
        value, trial, difference = self.best
        who = "best" if self.searching else "best of the search (one seed)"
        return TrainingRow([f"{who}  val/loss {number(value)}", f"trial {trial}"], "", difference, "bold green").render(
            width
        )

"""What a person sees while trainings run: a live picture on a terminal, plain lines in a pipe."""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

STYLE = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}


def clock(seconds: float) -> str:
    """Minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def number(value: float | None, digits: int = 4) -> str:
    """A figure or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


class Shows(Protocol):
    """Who shows what runs, or hands it on."""

    def trial_starts(self, trial: int | None, difference: str) -> None: ...
    def progress(self, step: int, max_steps: int, metrics: dict[str, float]) -> None: ...
    def trial_ends(
        self, outcome: str, step: int, value: float | None, rate: float | None, failure: str = ""
    ) -> None: ...
    def note(self, text: str) -> None: ...
    def phase(self, title: str, total: int) -> None: ...


@dataclass
class Training:
    """One that runs: which trial (None: of no search), what differs from the baseline, how far it is."""

    trial: int | None = None
    difference: str = ""
    step: int = 0
    max_steps: int = 1
    loss: float | None = None


class Display:
    """Show trials done of how many, what runs now and at which step, the best so far and the time left.

    `worker` says in which process a training runs: 0 is this one. It may be told from several threads.
    """

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        self.console = console or Console(markup=False)
        self.title, self.total, self.done, self.done_before = title, total, 0, 0
        self.began = time.monotonic()
        self.best: tuple[float, int | None, str] | None = None
        self.now: dict[int, Training] = {}
        self.recent: list[Text] = []
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

    def continues(self, done: int) -> None:
        """Say how many trials were there before."""
        self.done = self.done_before = done
        if done and self.live is None:
            self.console.print(f"goes on after {done} trials that are done")

    def phase(self, title: str, total: int) -> None:
        """Begin to count anew: another part of the work, of `total` trainings at most."""
        with self.lock:
            self.title, self.total, self.done, self.done_before = title, total, 0, 0
            self.began, self.best, self.recent = time.monotonic(), None, []
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
            if outcome == "complete" and value is not None and (self.best is None or value < self.best[0]):
                self.best = (value, now.trial, now.difference)
            speed = f"{rate:.0f} samples/s" if rate else ""
            who = f"trial {now.trial:>3}" if now.trial is not None else "run"
            parts = [who, f"{outcome:<8}", f"step {step:>4}", f"val/loss {number(value)}", speed, now.difference]
            line = Text("  ".join(part for part in parts if part), STYLE.get(outcome, ""))
            if failure:
                line.append(f"  ({failure})")
            if self.live is None:
                ahead = f"  [{self.done}/{self.total}, {self.left()} left]"
                self.console.print(Text(line.plain + ahead), soft_wrap=True)
            else:
                self.recent = [*self.recent[-5:], line]

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
        """Draw the live picture."""
        with self.lock:
            head = Table.grid(padding=(0, 2))
            head.add_row(
                Text(self.title, "bold"),
                ProgressBar(self.total, self.done, width=30),
                f"{self.done}/{self.total} trials",
                f"{clock(time.monotonic() - self.began)} elapsed, {self.left()} left",
            )
            lines: list[Table | Text] = [head, *self.recent]
            for now in [self.now[worker] for worker in sorted(self.now)]:
                running = Table.grid(padding=(0, 2))
                running.add_row(
                    Text(f"trial {now.trial:>3} now" if now.trial is not None else "now", "cyan"),
                    ProgressBar(now.max_steps, now.step, width=20),
                    f"step {now.step}/{now.max_steps}",
                    f"train/loss {number(now.loss)}" if now.loss is not None else "starting",
                    now.difference,
                )
                lines.append(running)
            if self.best is not None:
                lines.append(Text(f"best      {self.best[0]:.4f}  trial {self.best[1]}  {self.best[2]}", "bold green"))
            return Group(*lines)

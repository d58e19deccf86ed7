"""What a person sees while trainings run: a live picture on a terminal, plain lines in a pipe."""

import time
from types import TracebackType

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


class Display:
    """Show trials done of how many, what runs now and at which step, the best so far and the time left."""

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        self.console = console or Console(markup=False)
        self.title, self.total, self.done, self.done_before = title, total, 0, 0
        self.began = time.monotonic()
        self.best: tuple[float, int | None, str] | None = None
        self.now: tuple[int | None, str] | None = None
        self.step, self.max_steps = 0, 1
        self.loss: float | None = None
        self.recent: list[Text] = []
        self.live: Live | None = None

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
        """Say something above the picture."""
        self.console.print(Text(text))

    def continues(self, done: int) -> None:
        """Say how many trials were there before."""
        self.done = self.done_before = done
        if done and self.live is None:
            self.console.print(f"goes on after {done} trials that are done")

    def phase(self, title: str, total: int) -> None:
        """Begin to count anew: another part of the work, of `total` trainings at most."""
        self.title, self.total, self.done, self.done_before = title, total, 0, 0
        self.began, self.best, self.recent = time.monotonic(), None, []
        if self.live is None:
            self.console.print(f"{title}: {total} trainings at most")

    def trial_starts(self, trial: int | None, difference: str) -> None:
        """Say what runs now."""
        self.now, self.step, self.loss = (trial, difference), 0, None

    def progress(self, step: int, max_steps: int, metrics: dict[str, float]) -> None:
        """Take a training's progress."""
        self.step, self.max_steps = step, max_steps
        self.loss = metrics.get("train/loss", self.loss)

    def trial_ends(self, outcome: str, step: int, value: float | None, rate: float | None, failure: str = "") -> None:
        """Say how the running trial ended."""
        trial, difference = self.now or (None, "")
        self.done += 1
        if outcome == "complete" and value is not None and (self.best is None or value < self.best[0]):
            self.best = (value, trial, difference)
        speed = f"{rate:.0f} samples/s" if rate else ""
        who = f"trial {trial:>3}" if trial is not None else "run"
        parts = [who, f"{outcome:<8}", f"step {step:>4}", f"val/loss {number(value)}", speed, difference]
        line = Text("  ".join(part for part in parts if part), STYLE.get(outcome, ""))
        if failure:
            line.append(f"  ({failure})")
        if self.live is None:
            ahead = f"  [{self.done}/{self.total}, {self.left()} left]"
            self.console.print(Text(line.plain + ahead), soft_wrap=True)
        else:
            self.recent = [*self.recent[-5:], line]

    def left(self) -> str:
        """The time left, from the mean trial so far."""
        ended = self.done - self.done_before
        if not ended:
            return "?"
        return clock((time.monotonic() - self.began) / ended * max(0, self.total - self.done))

    def render(self) -> Group:
        """Draw the live picture."""
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self.title, "bold"),
            ProgressBar(self.total, self.done, width=30),
            f"{self.done}/{self.total} trials",
            f"{clock(time.monotonic() - self.began)} elapsed, {self.left()} left",
        )
        lines: list[Table | Text] = [head, *self.recent]
        if self.now is not None:
            running = Table.grid(padding=(0, 2))
            loss = f"train/loss {number(self.loss)}" if self.loss is not None else "starting"
            running.add_row(
                Text(f"trial {self.now[0]:>3} now", "cyan") if self.now[0] is not None else Text("now", "cyan"),
                ProgressBar(self.max_steps, self.step, width=20),
                f"step {self.step}/{self.max_steps}",
                loss,
                self.now[1],
            )
            lines.append(running)
        if self.best is not None:
            lines.append(Text(f"best      {self.best[0]:.4f}  trial {self.best[1]}  {self.best[2]}", "bold green"))
        return Group(*lines)

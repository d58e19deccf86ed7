"""What a terminal shows beside the results: that something happens, and notes."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.live import Live
from rich.spinner import Spinner

from denoise.config.compose import Composed
from search.console.console import Out
from search.console.redact import line


def plan(asked: Composed) -> str:
    """What a training or a search will do, in a line, before anything that takes seconds is loaded."""
    cfg, chosen = asked.cfg, asked.choices
    what = f"model={chosen.get('model')} data={chosen.get('data')}"
    if "search" not in cfg:
        return f"{what}: {cfg.trainer.max_steps} steps"
    settings, steps = cfg.search, f"of at most {cfg.trainer.max_steps} steps"
    trials = f"{settings.n_trials} trials {steps}"
    if settings.mode == "ablation":
        asked_about = ", ".join(map(str, settings.scientific or []))
        trials = f"{settings.per_arm} trials {steps} for each option of {asked_about}"
    finalists, seeds = settings.confirm.finalists, settings.confirm.seeds
    then = f", then the best {finalists} beside the baseline on up to {seeds} fresh seeds" if finalists else ""
    return f"search={chosen.get('search')} {what}: {trials}{then}; the time left is shown from the first trial on"


def waits(console: Out) -> AbstractContextManager[object]:
    """Show on a terminal that something happens, before there is anything to show."""
    if not sys.stdout.isatty():  # a worker's pipe carries messages, whatever the environment says of colours
        return nullcontext()
    shown = Spinner("dots", "loading torch, Lightning and MLflow")
    return Live(shown, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


def say(lines: Sequence[str]) -> None:
    """Print notes, a line each, where they are no result."""
    for each in lines:
        print(line(each), file=sys.stderr)

"""Signals that ask a process to end, told apart from a KeyboardInterrupt that a component raises."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HURRY_SECONDS = 3.0  # a terminal tells each process of a command, and its starter tells them too: that is one wish
_installed = False


class Interrupted(KeyboardInterrupt):
    """A signal asks this process to end."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, the first signal that asks to end raises Interrupted, so that what is open is closed.

    Another one after HURRY_SECONDS ends the process at once. What was ignored before, as by nohup, stays so.
    """
    global _installed
    if _installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    first: float | None = None

    def interrupt(number: int, frame: Any) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            raise Interrupted
        if time.monotonic() - first > HURRY_SECONDS:
            os._exit(130)

    before = {end: signal.getsignal(end) for end in ENDS}
    for end in ENDS:
        if before[end] is not signal.SIG_IGN:
            signal.signal(end, interrupt)
    _installed = True
    try:
        yield
    finally:
        _installed = False
        for end, handler in before.items():
            signal.signal(end, handler)


def asked(error: BaseException | None) -> bool:
    """Tell whether an error is an interrupt that was asked for; outside of `interruptible` each one is."""
    return isinstance(error, Interrupted if _installed else KeyboardInterrupt)


@contextmanager
def heard_as_before() -> Iterator[None]:
    """After it Ctrl-C is heard as before: Lightning stops hearing it for good once it has heard one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)

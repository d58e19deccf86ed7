"""A tracker or a storage that does not answer is waited for, with a line and a limit: that is no trial's fault."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from denoise.fault import Outside, chain, line
from search.console.redact import hide
from search.runtime import watchdog

FIRST_SECONDS, MOST_SECONDS = 0.2, 10.0  # between two tries, doubled each time
AWAY = (408, 429, 502, 503, 504)  # a server's status; MLflow gives its own errors one too
LOST = ("OperationalError", "InterfaceError")  # SQLAlchemy's: locked, no connection, no space, a server that starts

limit = 0.0  # seconds of waiting; a search that runs waits for tracking.patience, what opens it is refused at once
says: Callable[[str], None] = lambda text: print(text, file=sys.stderr)  # noqa: E731  # who shows the line


def begin(seconds: float, note: Callable[[str], None]) -> None:
    """From here on what does not answer is waited for, and that is said by `note`."""
    global limit, says
    limit, says = seconds, note


def end() -> None:
    """From here on nothing is waited for."""
    global limit
    limit = 0.0


@contextmanager
def none() -> Iterator[None]:
    """Within, nothing is waited for."""
    global limit
    before, limit = limit, 0.0
    try:
        yield
    finally:
        limit = before


def away(error: BaseException) -> bool:
    """Tell whether an error says that a tracker or a storage does not answer now, and may answer later."""
    for each in chain(error):
        kind, library = type(each).__name__, type(each).__module__.partition(".")[0]
        if library == "mlflow" and getattr(each, "get_http_status_code", int)() in AWAY:
            return True
        if library == "requests" or (library == "sqlalchemy" and kind in LOST):
            return True
    return False


def tried_again(call: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The call, made again while `what` does not answer. Errors: Outside after the limit.

    Only the main thread waits: the others say that something lives, or hear it, and do so again anyway.
    """

    @wraps(call)
    def patient(*given: Any, **more: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return call(*given, **more)
        began: float | None = None
        pause = FIRST_SECONDS
        while True:
            try:
                found = call(*given, **more)
            except Exception as error:
                if not limit or not away(error):
                    raise
                now = time.monotonic()
                if began is None:
                    began = now
                    says(f"{what} does not answer ({_short(error)}): waiting for it, {limit:g} seconds at most")
                if now - began >= limit:
                    raise Outside(f"{what} has not answered for {limit:g} seconds ({_short(error)})") from error
            else:
                if began is not None:
                    says(f"{what} answers again, after {time.monotonic() - began:.0f} seconds")
                return found
            with watchdog.voice.waiting():
                time.sleep(min(pause, max(0.0, limit - (now - began))))
            pause = min(2 * pause, MOST_SECONDS)

    return patient


class Patient:
    """An object whose calls are made again while the service behind it does not answer."""

    def __init__(self, of: Any, what: str) -> None:
        self._of, self._what = of, what

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        return tried_again(found, self._what) if callable(found) else found


def _short(error: BaseException) -> str:
    return hide(line(list(chain(error))[-1], 120))

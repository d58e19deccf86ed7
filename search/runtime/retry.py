"""A tracker or a storage that does not answer is waited for, with a line and a limit: that is no trial's fault."""

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

from denoise.fault import Outside, chain, line, said
from search.console.redact import hide
from search.runtime import watchdog

FIRST_SECONDS, MOST_SECONDS = 0.2, 10.0  # between two tries, doubled each time
AWAY = (408, 429, 502, 503, 504)  # a server's status; MLflow gives its own errors one too
NO_ROOM = (500, 507)  # what a server answers to a file that it cannot store
NO_ROOM_SECONDS = 30.0  # so long it is tried again then: a passing error is over, and a full disk stays full
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


def raced(call: Callable[..., Any], *given: Any, **more: Any) -> Any:
    """What a call returns, made again where another process has written the same row in between."""
    try:
        return call(*given, **more)
    except Exception as error:
        if not any("unique constraint" in str(each).lower() for each in chain(error)):
            raise
        return call(*given, **more)


def away(error: BaseException) -> bool:
    """Tell whether an error says that a tracker or a storage does not answer now, and may answer later."""
    if code := status(error):
        return code in (*AWAY, *NO_ROOM)
    for each in chain(error):
        kind, library = type(each).__name__, type(each).__module__.partition(".")[0]
        if library == "mlflow" and getattr(each, "get_http_status_code", int)() in AWAY:
            return True
        if library == "requests" or (library == "sqlalchemy" and kind in LOST):
            return True
    return False


def status(error: BaseException) -> int:
    """The HTTP status with which a server has refused; 0 where none has answered."""
    for each in chain(error):
        if (answer := getattr(each, "response", None)) is not None and hasattr(answer, "status_code"):
            return int(answer.status_code)
        if found := re.fullmatch(r"too many (\d+) error responses", said(each)):  # urllib3, which has tried some times
            return int(found[1])
    return 0


Probe = Callable[[], Any]  # a call that fails where a service is away as a whole


def tried_again(call: Callable[..., Any], what: str, probe: Probe | None = None) -> Callable[..., Any]:
    """The call, made again while `what` does not answer. Errors: Outside after the limit.

    probe: of a call that stores a file; where it succeeds, the limit of NO_ROOM is NO_ROOM_SECONDS at most.

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
                code, now = status(error), time.monotonic()
                most = _limit(code, probe)
                if began is None:
                    began = now
                    fails = f"answers {code}" if code else f"does not answer ({_short(error)})"
                    says(f"{what} {fails}: {'tried again' if code else 'waiting for it'}, {most:g} seconds at most")
                if now - began >= most:
                    fails = f"has answered {code}" if code else "has not answered"
                    why = "; its log says why" if code else f" ({_short(error)})"
                    raise Outside(f"{what} {fails} for {most:g} seconds{why}") from error
            else:
                if began is not None:
                    says(f"{what} answers again, after {time.monotonic() - began:.0f} seconds")
                return found
            with watchdog.voice.waiting():
                time.sleep(min(pause, max(0.0, most - (now - began))))
            pause = min(2 * pause, MOST_SECONDS)

    return patient


class Patient:
    """An object whose calls are made again while the service behind it does not answer; `probes`: by their names."""

    def __init__(self, of: Any, what: str, probes: Mapping[str, Probe]) -> None:
        self._of, self._what, self._probes = of, what, probes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        return tried_again(found, self._what, self._probes.get(name)) if callable(found) else found


def _limit(code: int, probe: Probe | None) -> float:
    if code in NO_ROOM and probe is not None:
        with suppress(Exception):
            probe()
            return min(limit, NO_ROOM_SECONDS)
    return limit


def _short(error: BaseException) -> str:
    return hide(line(list(chain(error))[-1], 120))

"""Whose fault an error is: the config's, which fails its training, or that of what stands around it, which does not."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn

from denoise import interruption
from denoise.errors import UserError

OF_THE_MACHINE = {  # what a full or broken disk, a file server that has gone or a limit of the system says
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EAGAIN),
    *(errno.ETIMEDOUT, errno.ENOLCK, errno.ENXIO, errno.ENODEV, errno.EHOSTDOWN, errno.EHOSTUNREACH),
}
LIBRARIES = {"mlflow", "sqlalchemy", "optuna", "requests", "urllib3", "google"}  # google: MLflow's answers, read
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # in torch's words, on a CPU and elsewhere


class Outside(Exception):
    """What a training writes to or reads from has failed: a disk, a tracker, a storage. It says nothing of the config.

    The message is one line: what failed, and how.
    """


@contextmanager
def outside(what: str) -> Iterator[None]:
    """Raise whatever fails within as Outside: `what` failed."""
    try:
        yield
    except (Outside, UserError):
        raise
    except Exception as error:
        raise Outside(f"{what} failed: {line(error)}") from error


def line(error: BaseException, most: int = 300) -> str:
    """An error as one line: its kind and what it says; what has failed outside says it all."""
    text = said(error)
    if isinstance(error, Outside):
        return text[:most]
    return f"{type(error).__name__}{f': {text}' if text else ''}"[:most]


def said(error: BaseException) -> str:
    """What an error says, as one line that every file and database takes; nothing where it cannot say it."""
    try:
        text = str(error)
    except Exception:
        return ""
    return " ".join(text.encode(errors="replace").decode().replace("\0", "\ufffd").split())


def of_the_machine(error: BaseException | None) -> bool:
    """Tell whether an error, or what it was raised from, is the system's: no space, no more files, no answer."""
    return any(isinstance(each, OSError) and each.errno in OF_THE_MACHINE for each in chain(error))


def of_the_world(error: BaseException) -> bool:
    """Tell whether an error is no mistake of this program: what it writes to or reads from has failed."""
    libraries = tuple(type(each).__module__.partition(".")[0] for each in chain(error))
    return isinstance(error, Outside | OSError) or bool(LIBRARIES & {*libraries})


def of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory left."""
    text = said(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY)


def ends_no_loop(step: Callable[..., Any]) -> Callable[..., Any]:
    """Raise what ends a loop, StopIteration, as an error: in a step of a training it would end Lightning's."""

    @wraps(step)
    def whole(*given: Any, **more: Any) -> Any:
        try:
            return step(*given, **more)
        except StopIteration as error:
            raise RuntimeError(line(error)) from error

    return whole


@contextmanager
def blamed() -> Iterator[None]:
    """Raise what is raised within by whose fault it is."""
    try:
        yield
    except BaseException as error:
        blame(error)


class Overheard:
    """An observer, and what it raised: that is never the training's fault."""

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.raised: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any) -> Any:
            try:
                return getattr(self.observer, name)(*given)
            except BaseException as error:
                self.raised = error
                raise

        return call


def blame(error: BaseException, observer: Overheard | None = None) -> NoReturn:
    """Raise what ended a training by whose fault it is.

    - the observer's: as it was raised;
    - an interrupt that was asked for, which Lightning hands on as SystemExit: KeyboardInterrupt;
    - the machine's: Outside;
    - else a component's: an Exception, whatever it raised.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    if observer is not None and observer.raised in list(chain(error)):
        raise observer.raised  # type: ignore[misc]
    if interruption.asked(error) or interruption.asked(error.__context__) or isinstance(error, SIGTERMException):
        raise KeyboardInterrupt from error
    if of_the_machine(error) and not isinstance(error, Outside):
        raise Outside(line(error)) from error
    if isinstance(error, Exception):
        raise error
    raised = error.__context__ if isinstance(error.__context__, KeyboardInterrupt) else error
    raise RuntimeError(line(raised)) from error


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on; each once, also where one was raised from itself."""
    known: list[BaseException] = []
    while error is not None and not any(error is each for each in known):
        known.append(error)
        yield error
        error = error.__cause__ or error.__context__

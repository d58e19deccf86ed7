"""The same work for each of several names, in as many processes as there are cores."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar, cast

Result = TypeVar("Result")


def each(work: Callable[[str], Result], names: Sequence[str]) -> dict[str, Result]:
    """work(name) for each name, in the order of the names; says on stderr how long each took."""
    global _work
    _work = work
    found: dict[str, Result] = {}
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
        waiting = {pool.submit(_timed, name): name for name in names}
        for done in as_completed(waiting):
            value, seconds = done.result()
            found[waiting[done]] = cast(Result, value)
            print(f"{waiting[done]}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return {name: found[name] for name in names}


_work: Callable[[str], object] | None = None  # inherited by the processes: what it closes over is never copied


def _timed(name: str) -> tuple[object, float]:
    assert _work is not None
    began = time.perf_counter()
    return _work(name), time.perf_counter() - began

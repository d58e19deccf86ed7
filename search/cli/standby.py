"""python -m search.cli.standby URL: a worker that waits for searches in the storage and joins each until it ends.

A search that is shared notes in its study what was typed. It is open from then until it has ended, or is withdrawn
(python -m search.cli.standby URL withdraw NAME). A worker joins the oldest one by the same command, so whatever is
true of several processes at one search is true here. What comes from the storage chooses options and values, never
code.
"""

import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from denoise.config.parse import parse
from denoise.errors import UserError
from denoise.fault import line
from denoise.interruption import Interrupted, interruptible
from search.cli.from_make import known_user
from search.console.redact import hide
from search.storages.attributes import OfStudy
from search.workers.shared import WITHDRAWN, withdraw

POLL_SECONDS = 5.0
AGAIN_SECONDS = 120.0  # a search that had nothing for this worker may have a lost trial after so long


def check(typed: Any) -> list[str]:
    """Refuse what would choose code to run. What measures quality is left out: it may be a file of code."""
    for text in typed:
        if "_target_" in text or text.lstrip("+~-").startswith(("allow", "hydra", "config-dir")):
            raise UserError(f"{text}: would choose code to run, which is not taken from the storage")
        parse(text)
    return [text for text in typed if not text.lstrip("+~").startswith("quality")]


def asked(url: str) -> dict[str, Any]:
    """The searches that were shared and have not ended, the oldest first: what was typed, or that it is withdrawn."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    found = optuna.get_all_study_summaries(storage, include_best_trial=False)
    storage.engine.dispose()
    known = [one for one in found if one.user_attrs.get(OfStudy.ASKED) is not None]
    known.sort(key=lambda one: one.user_attrs.get(OfStudy.OPENED, float("inf")))
    return {one.study_name: one.user_attrs[OfStudy.ASKED] for one in known}


def open_searches(url: str) -> list[tuple[str, list[str]]]:
    """Those that are open, with what was typed for them."""
    return [(name, typed) for name, typed in asked(url).items() if typed != WITHDRAWN]


class StandbyWorker:
    """Joins one search at a time by a process of its own, which it ends where the search is withdrawn."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.joined: dict[str, tuple[float, list[str]]] = {}  # when a search was left last, and what was typed then
        self.process: subprocess.Popen[bytes] | None = None

    def work(self) -> None:
        """Join what is open, for ever."""
        said = ""
        while True:
            try:
                found = open_searches(self.url)
            except Exception as error:  # a storage that is away comes back
                now = f"the storage does not answer: {hide(line(error, 120))}"
            else:
                now = "waits for a search"
                for name, typed in found:
                    left, before = self.joined.get(name, (-AGAIN_SECONDS, None))
                    if typed != before or time.monotonic() - left >= AGAIN_SECONDS:
                        self.join(name, typed)
                        now = said = ""
                        break
            if now and now != said:
                print(now, flush=True)
            said = now
            time.sleep(POLL_SECONDS if now else 0)

    def join(self, name: str, typed: list[str]) -> None:
        """Take part in a search until it has no trial for this worker."""
        print(f"joins {name}", flush=True)
        try:
            words = [*check(typed), f"search.storage={self.url}", "search.shared=false", "quality=none"]
            self.process = subprocess.Popen([sys.executable, "-m", "search", "search", *words])
            while self.process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(POLL_SECONDS)
                    break
                with suppress(Exception):  # as above: it is asked again
                    if asked(self.url).get(name) == WITHDRAWN:
                        self.leave()
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        self.joined[name] = (time.monotonic(), typed)

    def leave(self) -> None:
        """Ask the process to end, and wait for it: it keeps its trial's state."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()


def close(url: str, name: str) -> None:
    """Withdraw a search. Errors: UserError where it is not open."""
    import optuna

    names = [known for known, _ in open_searches(url)]
    if name not in names:
        raise UserError(f"{name}: no open search; open: {', '.join(names) or 'none'}")
    withdraw(optuna.load_study(study_name=name, storage=url))


def main(arguments: Sequence[str]) -> int:
    """Stand by, or withdraw a search. Exit status: 0 done, 2 a refusal, 130 asked to end."""
    known_user()
    warnings.filterwarnings("ignore")
    url = arguments[0].replace("postgresql://", "postgresql+psycopg2://", 1)
    worker = StandbyWorker(url)
    try:
        with interruptible():
            if arguments[1:]:
                close(url, arguments[-1])
            else:
                worker.work()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Interrupted:
        worker.leave()
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

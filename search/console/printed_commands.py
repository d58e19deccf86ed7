"""The commands that this program prints: each does what it says as it stands there, typed into a shell."""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence

from denoise.config.overrides import Overrides, key
from denoise.paths import repository
from search.console.redact import hide

PLAIN = re.compile(r"[\w@%+=:,./\[\]{}~-]+")  # needs no quotes in ARGS
WHERE = ("store", "tracking.uri", "tracking.experiment")  # the keys that say where runs lie
OF_RUN = ("best", "reproduce", "report", "sample", "trials", "remove")  # the verbs that a run can be named for
PROGRAM = "denoise-search"  # the console command
DOOR = "DENOISE_SEARCH_DOOR"  # of the environment: PROGRAM where that was typed; else it is make
HANDED = "DENOISE_SEARCH_ARGUMENTS"  # of the environment: what a worker was started with, its passwords too
given: list[str] = []  # of what was typed: where the runs lie, and whose components there are


def remember(overrides: Sequence[str], folders: Sequence[str]) -> None:
    """Take from what was typed what each further command needs too."""
    words = [word for folder in folders for word in ("--config-dir", folder)]
    words += [hide(text) for text in overrides if key(text) in WHERE]
    given[:] = words


def door() -> str:
    """What a verb is typed after: make, or denoise-search where that was typed, or where there is no Makefile."""
    alone = repository() is None and not os.environ.get("ENGINE")
    return PROGRAM if alone or os.environ.get(DOOR) == PROGRAM else "make"


def named(verb: str) -> str:
    """A verb as it is typed, without what else that takes, to be named in a sentence: make train."""
    return f"{door()} {verb}"


def usage() -> str:
    """How a verb is typed, and what lists them."""
    if door() == PROGRAM:
        return f"{PROGRAM} VERB KEY=VALUE ...; {PROGRAM} --help lists the verbs"
    return 'make VERB ARGS="KEY=VALUE ...", make help lists the verbs'


def as_typed(message: str) -> str:
    """A message that begins with a run, RUN=0123abc, with that as it is typed."""
    return re.sub("^RUN=", "--run ", message) if door() == PROGRAM else message


def make(verb: str, more: Sequence[str] = (), run: str = "") -> str:
    """The command that does a verb where this one did its own; what `more` says of a key goes before what was typed."""
    return command(
        [*(text for text in given if key(text) not in Overrides(more).values or "=" not in text), *more], verb, run
    )


def listed(verbs: Mapping[str, str], run: str = "") -> list[str]:
    """What the user may do next: a line for each verb with what it does, about a run where one is named."""
    made = {make(verb, run=run if verb in OF_RUN else ""): what for verb, what in verbs.items()}
    width = max(map(len, made))
    return [f"  {text:<{width}}   {what}" for text, what in made.items()]


def command(arguments: Sequence[str], verb: str = "train", run: str = "") -> str:
    """The command that does a verb with these arguments, as it can be typed into a shell.

    Words of denoise-search are quoted for the shell. For make an argument that is more than a plain word is quoted for
    the program that splits ARGS, which expands nothing; what stands in ARGS is then quoted for the shell, its ! apart,
    which bash keeps a backslash before.
    """
    if door() == PROGRAM:
        return shlex.join([PROGRAM, verb, *(["--run", run] if run else []), *arguments])
    words = [text if PLAIN.fullmatch(text) else shlex.quote(text) for text in arguments]
    typed = re.sub(r'([\\"`$])', r"\\\1", " ".join(words)).replace("!", "\"'!'\"")
    engine = f" ENGINE={os.environ['ENGINE']}" if os.environ.get("ENGINE") else ""
    return f"make {verb}{engine}" + (f' ARGS="{typed}"' if words else "") + (f" RUN={shlex.quote(run)}" if run else "")


def restore(uri: str, what: str, number: str) -> str:
    """The command that takes back what was deleted in MLflow: what is experiment or run."""
    python = shlex.quote(sys.executable) if door() == PROGRAM else ".venv/bin/python"
    typed = f"MLFLOW_TRACKING_URI={shlex.quote(hide(uri))} {python} -m mlflow {what}s restore"
    return f"{typed} --{what}-id {shlex.quote(number)}"


def hand_over(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A command line for a process beside this one as it may be seen, and the environment that has it whole."""
    return [hide(text) for text in arguments], {**os.environ, HANDED: json.dumps(list(arguments))}


def handed_over(arguments: Sequence[str]) -> list[str]:
    """The whole command line of a process that was started with `hand_over`; any other as it is."""
    whole: list[str] = json.loads(os.environ.pop(HANDED, "null")) or []
    return whole if [hide(text) for text in whole] == list(arguments) else list(arguments)

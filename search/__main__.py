"""The verbs: denoise-search VERB [--run ID] [--config-dir FOLDER] [OVERRIDE ...]; make VERB ARGS="..." types it."""

import argparse
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NoReturn

from denoise import fault
from denoise.errors import UserError, choose
from denoise.interruption import interruptible
from search import __version__
from search.cli.from_make import known_user
from search.console import printed_commands
from search.console.redact import hide, line
from search.runtime import watchdog
from search.runtime.startup import leave

VERBS = {
    "search": "search; the same command resumes one that was stopped",
    "train": "train one config: activation=swish optimizer.lr=0.01",
    "ui": "compare the trials in MLflow, on 127.0.0.1",
    "best": "the best config as a command, what fresh seeds say of it, and best.yaml",
    "reproduce": "train the best run (or --run ID) again and compare",
    "report": "the leaderboard, the confirmation and the verdicts again",
    "sample": "draw images from the weights of the best run (or --run ID)",
    "searches": "what searches there are: how far each is, what it found",
    "trials": "the trainings of the latest search (or --run SEARCH): --csv, --json",
    "compare": "put two searches side by side: compare A B",
    "remove": "remove a search for good: --run SEARCH; what goes is said first",
    "catalog": "print the components",
    "sites": "list the places of a model that options reach, without training",
    "inspect": "signal and gradient through depth at initialization, in seconds",
}
RUNS = "a run's id or its first digits, a search's name, 'trial 12', best, baseline, champion"
REPOSITORY = (
    "install",
    "up",
    "down",
    "logs",
    "bench",
    "test",
    "test-components",
    "test-verbs",
    "test-faults",
    "test-browser",
    "test-docker",
    "lint",
    "lock",
)  # of make
AFTER = {"search": "; the same command resumes it"}  # what is true after an interrupt
HELP = {
    "config_name": "the root config in place of train",
    "check": "only tell whether docs/kinds is fresh",
    "json": "the list as JSON",
    "csv": "the list as CSV",
    "yes": "do it",
    "long": "all of its overrides, those that say what is the default anyway too",
    "cfg": "print the composed config and do nothing",
    "info": "print which option each group has, from which file",
}
FLAGS = {
    "config_name": ("train", "inspect", "sites"),
    "cfg": ("search", "train", "inspect", "sites"),
    "info": ("search", "train", "inspect", "sites"),
    "check": ("catalog",),
    "form": ("searches", "trials"),
    "yes": ("remove",),
    "long": ("best",),
}
AFTER |= dict.fromkeys(("train", "reproduce"), "; the same command begins anew, as another run")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Exit status: 0 done, 1 a result that is not as it should be, 2 a refusal, 130 interrupted."""
    verb = ""
    known_user()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # which Lightning imports: its cache may not be kept
    warnings.filterwarnings("ignore")  # third parties'; what the user must know is said by us, in one line
    try:
        with interruptible():
            verb, options = read(printed_commands.handed_over(sys.argv[1:]) if arguments is None else arguments)
            from search.cli import commands as verbs

            run: Callable[[argparse.Namespace], int] = getattr(verbs, verb)
            return run(options)
    except UserError as error:
        print(line(printed_commands.as_typed(str(error))), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"interrupted{AFTER.get(verb, '')}", file=sys.stderr)
        return 130
    except Exception as error:
        if not fault.of_the_world(error):
            raise
        print(f"{line(fault.line(error))}{AFTER.get(verb, '')}", file=sys.stderr)
        return 1


class Parser(argparse.ArgumentParser):
    """argparse, with its errors as refusals."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; write {printed_commands.usage()}")


def read(arguments: Sequence[str]) -> tuple[str, argparse.Namespace]:
    """Read the command line. Errors: UserError."""
    parser = Parser(
        prog={"make": "python -m search"}.get(door := printed_commands.door(), door),
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="verbs:\n" + "\n".join(f"  {verb:<12}{what}" for verb, what in VERBS.items()),
    )
    parser.add_argument("--version", action="version", version=f"{printed_commands.PROGRAM} {__version__}")
    parser.add_argument("verb", help="what to do, see below")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as activation=swish optimizer.lr=0.01")
    parser.add_argument("--run", default=None, help=RUNS)
    parser.add_argument("--config-dir", action="append", default=[], help="a folder of your own options and configs")
    parser.add_argument("--config-name", default=None, help=HELP["config_name"])
    for form in ("json", "csv"):
        parser.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=HELP[form])
    for flag in ("check", "yes", "long", "cfg", "info"):
        parser.add_argument(f"--{flag}", action="store_true", help=HELP[flag])
    parser.add_argument("--worker", action="store_true", help="search: as a worker of the process that starts it")
    parser.add_argument("--help", "-h", action="store_true", help="of a verb: its flags, groups and keys")
    words = _as_hydra_has_it(arguments)
    if not {"--help", "-h"}.isdisjoint(words):
        _help(parser, words)
    options = parser.parse_intermixed_args(words)
    options.typed = list(arguments)
    if options.verb in REPOSITORY:
        raise UserError(
            f"{options.verb}: needs the repository: make {options.verb} in a clone; legal here: {', '.join(VERBS)}"
        )
    if options.verb not in VERBS:
        raise UserError(f"{options.verb}: unknown verb; {choose(options.verb, VERBS)}")
    if options.worker and options.verb != "search":
        raise UserError(f"--worker: {options.verb} has no workers; search starts its own, search.workers says how many")
    if options.run is not None and options.verb not in printed_commands.OF_RUN:
        raise UserError(f"RUN={options.run}: {options.verb} takes no run; {', '.join(printed_commands.OF_RUN)} do")
    _check_flags(options)
    _trust(options)
    return options.verb, options


def _as_hydra_has_it(arguments: Sequence[str]) -> list[str]:
    """The words, with --cfg job as --cfg: Hydra's own settings are no part of a config here. Errors: UserError."""
    words = list(arguments)
    for flag in ("--cfg", "--info"):
        following = words[words.index(flag) + 1] if flag in words[:-1] else ""
        if following in ("job", "all", "config", "defaults", "defaults-tree", "searchpath"):
            words.pop(words.index(flag) + 1)
        elif following in ("hydra", "plugins"):
            raise UserError(
                f"{flag} {following}: Hydra's own settings change nothing here; {flag} alone shows the config"
            )
    return words


def _help(parser: argparse.ArgumentParser, words: Sequence[str]) -> NoReturn:
    """Print what there is, or what the verb takes that is named. Exits with 0."""
    from search.cli import help

    verb = next((word for word in words if word in VERBS), None)
    if verb is None:
        parser.print_help()
    else:
        named = [flag for flag, verbs in FLAGS.items() if verb in verbs]
        named = [each for flag in named for each in (("json", "csv") if flag == "form" else (flag,))]
        flags = {f"--{flag.replace('_', '-')}": HELP[flag] for flag in named}
        flags |= {"--run RUN": RUNS} if verb in printed_commands.OF_RUN else {}
        flags |= {"--config-dir FOLDER": "of your own options and configs"}
        print(help.of_verb(verb, VERBS[verb], flags))
    raise SystemExit(0)


def _check_flags(options: argparse.Namespace) -> None:
    """Refuse what the verb would not look at, and a root config or a folder that is named in another way."""
    for flag, verbs in FLAGS.items():
        if getattr(options, flag) not in (None, False) and options.verb not in verbs:
            said = getattr(options, flag) if flag == "form" else flag.replace("_", "-")
            raise UserError(
                f"--{said}: {options.verb} does not look at it; {', '.join(verbs)} take{'s' * (len(verbs) == 1)} it"
            )
    if options.config_name is not None and not re.fullmatch(r"[\w-]+", options.config_name):
        raise UserError(
            f"--config-name {options.config_name}: not the name of a root config; FOLDER/NAME.yaml is "
            "--config-dir FOLDER --config-name NAME"
        )
    if "" in options.config_dir:
        raise UserError("--config-dir: names no folder; write --config-dir FOLDER, with a dot for this one")


def _trust(options: argparse.Namespace) -> None:
    """Read the folders that were given, and allow what was typed, or stands in the root config that was named.

    That counts before an option's file is read, and is no part of a trial: who repeats one allows anew.
    """
    from denoise.config import catalog, plain, trust
    from denoise.config.compose import compose
    from denoise.paths import place
    from search.cli import best_file

    folders, best = [place(folder, f"--config-dir {folder}") for folder in options.config_dir], None
    if options.config_name == best_file.NAME:
        best = best_file.folder(folders)
        folders, options.config_name = [folder for folder in folders if folder != best], None
    printed_commands.remember(options.overrides, [str(folder) for folder in folders])
    for folder in folders:
        catalog.add_folder(folder)
    consent = [text for text in options.overrides if text.lstrip("+").startswith("allow=")]
    options.overrides = [text for text in options.overrides if text not in consent]
    roots = {path.stem: path for folder in catalog.folders() for path in folder.glob("*.yaml") if path.stem != "search"}
    if options.config_name is not None and options.config_name not in roots:
        raise UserError(
            f"--config-name {options.config_name}: no such root config; {choose(options.config_name, roots)}"
        )
    for folder in catalog.folders()[:-1]:
        if (path := folder / f"{options.config_name}.yaml").exists():
            content = plain.read(path)
            if isinstance(content, dict) and "hydra" in content:
                raise UserError(f"{path}: hydra: sets nothing of a training; leave it out")
    if consent or options.config_name:
        trust.allow(compose(consent, options.config_name or "train").cfg.allow or [])
    catalog.check_own()
    if best is not None and options.verb in ("train", "inspect", "sites"):
        options.overrides = best_file.beneath(best.expanduser() / f"{best_file.NAME}.yaml", options.overrides)


def _crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say where it was, as Python does, without the passwords that stand in an error's text."""
    print(hide("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def run() -> NoReturn:
    """Do what was typed; a search in a process that is watched."""
    sys.excepthook = _crash
    threading.excepthook = lambda args: _crash(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    alone = "search" not in sys.argv[1:] or watchdog.FLAG in sys.argv or not hasattr(os, "fork")
    leave(watchdog.whole(main) if alone else watchdog.watch(main))


def command() -> NoReturn:
    """Be the console command denoise-search: printed commands name it, nothing is imported from the current folder."""
    os.environ |= {printed_commands.DOOR: printed_commands.PROGRAM, "PYTHONSAFEPATH": "1"}
    run()


if __name__ == "__main__":
    run()

"""The verbs: python -m search VERB [--run ID] [--config-dir FOLDER] [OVERRIDE ...]; make VERB ARGS="..." types it."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from denoise.fault import line, of_the_world
from denoise.interruption import interruptible
from denoise.refusal import Refusal, choose
from search import commands, watch
from search.from_make import known_user
from search.process import leave

VERBS = ("search", "train", "ui", "best", "reproduce", "report", "sample", "catalog", "inspect")
AFTER = {"search": "; the same command resumes it"}  # what is true after an interrupt
AFTER |= dict.fromkeys(("train", "reproduce"), "; the same command begins anew, as another run")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Exit status: 0 done, 1 a result that is not as it should be, 2 a refusal, 130 interrupted."""
    verb = ""
    known_user()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # which Lightning imports: its cache may not be kept
    warnings.filterwarnings("ignore")  # third parties'; what a person must know is said by us, in one line
    try:
        with interruptible():
            verb, options = read(sys.argv[1:] if arguments is None else arguments)
            from search import verbs

            run: Callable[[argparse.Namespace], int] = getattr(verbs, verb)
            return run(options)
    except Refusal as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"interrupted{AFTER.get(verb, '')}", file=sys.stderr)
        return 130
    except Exception as error:
        if not of_the_world(error):
            raise
        print(f"{commands.hide_password(line(error))}{AFTER.get(verb, '')}", file=sys.stderr)
        return 1


class Parser(argparse.ArgumentParser):
    """argparse, with its errors as refusals."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise Refusal(f'{message}; write make VERB ARGS="KEY=VALUE ...", make help lists the verbs')


def read(arguments: Sequence[str]) -> tuple[str, argparse.Namespace]:
    """Read the command line. Errors: Refusal."""
    parser = Parser(prog="python -m search", allow_abbrev=False)
    parser.add_argument("verb", help=", ".join(VERBS))
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as activation=swish optimizer.lr=0.01")
    parser.add_argument("--run", default=None, help="an MLflow run id")
    parser.add_argument(
        "--config-dir", action="append", default=[], help="a folder of options and configs of one's own"
    )
    parser.add_argument("--config-name", default=None, help="the root config in place of train")
    parser.add_argument("--check", action="store_true", help="catalog: only tell whether README and pages are fresh")
    parser.add_argument("--cfg", action="store_true", help="print the composed config and do nothing")
    parser.add_argument("--beside", action="store_true", help="search: as a worker of the process that starts it")
    options = parser.parse_intermixed_args(list(arguments))
    options.typed = list(arguments)
    commands.remember(options.overrides, options.config_dir)
    if options.verb not in VERBS:
        raise Refusal(f"{options.verb}: unknown verb; {choose(options.verb, VERBS)}")
    if options.beside and options.verb != "search":
        raise Refusal(f"--beside: {options.verb} has no workers; search starts its own, search.workers says how many")
    if options.run is not None and options.verb not in commands.OF_RUN:
        raise Refusal(f"RUN={options.run}: {options.verb} takes no run; {', '.join(commands.OF_RUN)} do")
    from denoise import catalog
    from denoise.config import compose

    for folder in options.config_dir:
        catalog.add_folder(Path(folder))
    # what is allowed counts before an option's file is read, and is no part of a trial: who repeats one allows anew
    consent = [text for text in options.overrides if text.lstrip("+").startswith("allow=")]
    options.overrides = [text for text in options.overrides if text not in consent]
    if consent or options.config_name:
        compose(consent, options.config_name or "train")
    catalog.check_own()
    return options.verb, options


if __name__ == "__main__":
    alone = "search" not in sys.argv[1:] or watch.FLAG in sys.argv or not hasattr(os, "fork")
    leave(watch.whole(main) if alone else watch.watch(main))

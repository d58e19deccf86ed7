"""What make hands over: from_make.py MODULE [ARGUMENT ...] runs the module with RUN and ARGS of the environment too.

Neither make nor a shell reads ARGS, so that a value arrives as it was typed; here it is split into words as a shell
splits them, and nothing in it is expanded. The module is that of this folder, whatever the environment or an older
install says. It runs by itself (python -IS): it imports nothing of the project.
"""

import os
import pwd
import shlex
import sys
from collections.abc import Mapping, Sequence

OF_MAKE = ("ARGS", "RUN", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")  # another make below is not meant


def words(given: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The arguments, then --run RUN for a verb of search, then the words of ARGS. Errors: ValueError."""
    run = environment.get("RUN", "") if given[0] == "search" else ""
    return [*given, *(["--run", run] if run else []), *shlex.split(environment.get("ARGS", ""))]


def known_user() -> None:
    """Give the process a home and a user's name where the system knows none, as for a container's bare number.

    Libraries ask for both while they are imported. The home is the root folder, in which such a user writes nothing.
    """
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = os.sep
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("LOGNAME", f"uid{os.getuid()}")


def main() -> None:
    """Become the module. Exit status 2 and one line where ARGS cannot be split."""
    try:
        arguments = words(sys.argv[1:], os.environ)
    except ValueError as error:
        said = " ".join(os.environ["ARGS"].split())
        sys.exit(refuse(f"ARGS={said}: {str(error).lower()}; close each quote, or put a backslash before it"))
    known_user()
    rest = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    here = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 2))
    rest["PYTHONPATH"] = os.pathsep.join(filter(None, [os.path.join(here, "src"), here, rest.get("PYTHONPATH")]))
    os.execve(sys.executable, [sys.executable, "-m", *arguments], rest)


def refuse(line: str) -> int:
    """Say why not; the exit status."""
    print(line, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()

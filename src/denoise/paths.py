"""Where the configs and the repository lie, and a file or folder that was typed."""

from pathlib import Path

from denoise.errors import UserError

PACKAGE = Path(__file__).resolve().parent


def conf() -> Path:
    """The folder of the configs: conf/ of the package where it is installed, conf/ of the repository else."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "conf"


def repository() -> Path | None:
    """The repository whose code runs, with its Makefile; None where the package is installed without one."""
    root = PACKAGE.parents[1]
    return root if conf().parent == root and (root / "Makefile").is_file() else None


def place(text: str | Path, given: str) -> Path:
    """The path, its ~ as a home. Errors: UserError, which begins with `given`, where the system does not take it."""
    try:
        path = Path(text).expanduser()
        (path / "file").exists()
        return path
    except RuntimeError:
        reason = "no such user"
    except OSError as error:  # too long a name, a folder that may not be read
        reason = str(error.strerror)
    raise UserError(f"{given}: cannot be used ({reason}); write another path")

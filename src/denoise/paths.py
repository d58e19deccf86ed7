"""A file or folder that was typed."""

from pathlib import Path

from denoise.errors import Refusal


def place(text: str | Path, given: str) -> Path:
    """The path, its ~ as a home. Errors: Refusal, which begins with `given`, where the system does not take it."""
    try:
        path = Path(text).expanduser()
        (path / "file").exists()
        return path
    except RuntimeError:
        reason = "no such user"
    except OSError as error:  # too long a name, a folder that may not be read
        reason = str(error.strerror)
    raise Refusal(f"{given}: cannot be used ({reason}); write another path")

"""The address of an SQLite file, and the file of an address: made and read here, whatever signs the path has."""

import re
from pathlib import Path
from urllib.parse import quote, unquote

PREFIX = "sqlite:///"
# % and ? mean something in an address, { and } in one of Optuna's. The slashes are quoted with them: MLflow makes the
# folder of an address as it stands there, and that would be another one, beside the store.
SIGNS = re.compile(r"[%?{}]")


def url(path: Path) -> str:
    """The address of a file, by its absolute path, for MLflow, Optuna and SQLAlchemy alike."""
    text = str(path.resolve())
    return f"{PREFIX}{quote(text, safe='') if SIGNS.search(text) else text}"


def file(url: str) -> Path | None:
    """The file that an address names; None for another database, and for one in memory."""
    text = unquote(url.removeprefix(PREFIX).partition("?")[0])
    return Path(text) if url.startswith(PREFIX) and text not in ("", ":memory:") else None

"""Where the runs are tracked: the config's address, else the environment's, else SQLite in the store."""

import os
import re
from importlib.metadata import entry_points
from pathlib import Path

from denoise.errors import UserError
from search.console.redact import hide
from search.storages import sqlite

FROM_OUTSIDE = "MLFLOW_TRACKING_URI"
LEGAL = re.compile(r"https?://[^/]|sqlite(\+\w+)?:///?|(postgresql|mysql|mssql)(\+\w+)?://|(databricks|uc)\b")
HOST = re.compile(r"(?:https?:/{0,2})?([A-Za-z0-9][\w.-]*(?::\d+)?(?:/\S*)?)")


def resolve_uri(uri: str | None, store: Path) -> str:
    """The tracker's address. Errors: UserError where MLflow would take it for a folder, or cannot use it."""
    if uri:
        return _legal(str(uri), f"tracking.uri={uri}", "tracking.uri=")
    outside = os.environ.get(FROM_OUTSIDE, "").strip()
    return _legal(outside, f"{FROM_OUTSIDE}={outside}", f"{FROM_OUTSIDE}=") if outside else local_uri(store)


def local_uri(store: Path) -> str:
    """SQLite in the store, by its absolute path."""
    return sqlite.url(store / "mlflow.db")


def is_local(uri: str, store: Path) -> bool:
    """Whether an address names the database of this store, whose artifacts then lie beside it."""
    file = sqlite.file(uri)
    return file is not None and file.resolve() == (store / "mlflow.db").resolve()


def _legal(uri: str, given: str, key: str) -> str:
    if LEGAL.match(uri) or uri.partition(":")[0] in _installed():
        return uri
    raise UserError(
        f"{hide(given)}: no address of a tracker; legal: http://HOST:PORT, https://HOST, sqlite:///FILE, "
        f"postgresql://USER@HOST/NAME; write {key}{_meant(uri)}, or leave it out for SQLite in the store"
    )


def _meant(uri: str) -> str:
    """The legal address that is nearest to what was typed."""
    host = HOST.fullmatch(uri)
    if host and (":" in host[1] or uri.startswith("http") or host[1] == "localhost"):
        return f"http://{host[1]}"
    scheme, apart, rest = uri.partition("://")
    if apart and scheme not in ("file", "sqlite"):
        return f"http://{rest.rpartition('@')[2].strip('/') or '127.0.0.1:5000'}"
    path = Path(os.path.expanduser(re.sub(r"^file:(//)?|^sqlite:/*", "", uri) or ".")).resolve()
    return sqlite.url(path if path.suffix in (".db", ".sqlite") else path / "mlflow.db")


def _installed() -> set[str]:
    """The schemes that MLflow's plugins bring."""
    return {each.name for each in entry_points(group="mlflow.tracking_store")}

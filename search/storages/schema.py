"""python -m search.storages.schema STUDIES RUNS: both PostgreSQL databases with their tables, of this release.

STUDIES is Optuna's, RUNS is MLflow's, which is made where it is missing. One process does this before any other opens
them: two that make tables at once break them.
"""

import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from denoise.errors import UserError
from denoise.fault import Outside, line
from search.console.redact import hide
from search.runtime import retry

WAIT_SECONDS = 60.0  # a server that has just been started is waited for so long
UNKNOWN = "Can't locate revision"  # Alembic's words for tables of a later release
PASSWORD = "password authentication failed"


def main(arguments: Sequence[str]) -> int:
    """Migrate. Exit status: 0 done, 1 a server that does not answer or has no room, 2 a refusal; each one line."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    retry.limit = WAIT_SECONDS
    try:
        studies, runs = (driver(url) for url in arguments)
        make_database(studies, make_url(runs).database or "")
        print(f"Optuna's tables: {migrate_studies(studies)}")
        print(f"MLflow's tables: {migrate_runs(runs)}")
        if bucket := os.environ.get("S3_BUCKET"):
            make_bucket(bucket, os.environ["MLFLOW_S3_ENDPOINT_URL"])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (Outside, SQLAlchemyError, RuntimeError) as error:
        said = hide(str(error) if isinstance(error, Outside) else line(error))
        print(f"{said}; make logs ARGS=postgres shows why (a full disk, for one)", file=sys.stderr)
        return 1
    return 0


def driver(url: str) -> str:
    """The address with the driver that is installed."""
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


def make_database(url: str, name: str) -> None:
    """Make database `name` beside the one at `url`, unless it is there. Errors: UserError for a wrong password."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def connect() -> Any:
        try:
            return engine.connect()
        except SQLAlchemyError as error:
            if PASSWORD in str(error):
                return None
            raise

    connection = retry.tried_again(connect, "PostgreSQL")()
    if connection is None:
        raise UserError(
            "POSTGRES_PASSWORD in docker/.env: not the password that this volume was made with; put the old "
            "docker/.env back, or set the password anew as docs/server.md says"
        )
    with connection:
        if not connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}):
            connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()


def migrate_studies(url: str) -> str:
    """Make or upgrade Optuna's tables; what was done. Errors: UserError where they are of a later release."""
    from optuna import __version__
    from optuna.storages import RDBStorage

    storage = RDBStorage(url, skip_compatibility_check=True)
    before, head = storage.get_current_version(), storage.get_head_version()
    if before not in storage.get_all_versions():
        raise UserError(too_new("optuna", before, f"Optuna {__version__}"))
    if before == head:
        return f"{head}, as they are"
    storage.upgrade()
    return f"{before} upgraded to {head}"


def migrate_runs(url: str) -> str:
    """Make or upgrade MLflow's tables by its own command; what was done. Errors: UserError as above, Outside."""
    from mlflow import __version__

    before = revision(url)
    done = subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", url], capture_output=True, text=True)
    if done.returncode:
        if UNKNOWN in done.stderr:
            raise UserError(too_new("mlflow", before, f"MLflow {__version__}"))
        raise Outside(f"mlflow db upgrade: {(done.stderr.strip().splitlines() or ['no word'])[-1][:300]}")
    head = revision(url)
    return f"{head}, as they are" if before == head else f"{before or 'none'} upgraded to {head}"


def make_bucket(name: str, address: str) -> None:
    """Make a bucket in the S3 store at `address`, unless it is there. Errors: Outside."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client("s3", endpoint_url=address)
    ends = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            if name not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=name)
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > ends:
                raise Outside(f"the S3 store at {address} has not answered for {WAIT_SECONDS:g} seconds") from error
        time.sleep(1)


def revision(url: str) -> str:
    """The revision of the tables at `url` in Alembic's book; empty where there are none."""
    engine = create_engine(url)
    with engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return ""
        return str(connection.scalar(text("SELECT version_num FROM alembic_version")) or "")


def too_new(database: str, revision: str, release: str) -> str:
    """One line for tables that this release does not know."""
    return (
        f"database {database}: its tables (revision {revision}) are of a later release than {release} in this image; "
        "take the later code, or restore the backup that was made before the update"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

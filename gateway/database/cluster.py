"""A sandbox's PostgreSQL while its gateway serves: started again should it end, stopped whatever pid it has by then."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import structlog

from gateway.database.embedded import forget_dead_users

LOOK_S = 0.5
POLL_S = 0.02
PAUSES_S = (0.1, 0.5, 1.0, 5.0)  # between attempts to start it again; the last for all further ones
STEADY_S = 60.0  # who lived that long is started again without the pauses of before
STOP_S = 8.0
GENTLE_S = 0.7  # of the time to stop: for a checkpoint; what is left is for stopping as in a crash, which loses nothing
log = structlog.get_logger(__name__)


class SandboxCluster:
    """A started cluster. `stop` it; `keep` it alive until then."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._data: Path = cluster.pgdata
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._watch, name="watch-postgresql", daemon=True)
        self.url: str = cluster.get_uri()

    def keep(self) -> None:
        self._keeper.start()

    def stop(self, by_s: float | None = None) -> None:
        """Leave it; the last user stops it. At that moment of the monotonic clock it has ended."""
        by_s = time.monotonic() + STOP_S if by_s is None else by_s
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join(max(0.1, by_s - time.monotonic() - LOOK_S))
        forget_dead_users(self._data)
        if self._cluster.global_process_id_list.get() == [os.getpid()]:
            self._end(by_s)
            self._cluster._postmaster_info = None  # the pid of the start may be anybody's by now
        self._cluster.cleanup()

    def _watch(self) -> None:
        failures, began_s = 0, time.monotonic()
        while not self._stopping.wait(LOOK_S):
            if self._postmaster() is not None:
                if time.monotonic() - began_s > STEADY_S:
                    failures = 0
                continue
            log.error("process_ended", process="postgresql")
            if self._stopping.wait(PAUSES_S[min(failures, len(PAUSES_S) - 1)]):
                return
            failures, began_s = failures + 1, time.monotonic()
            with _told():
                self._start_again()

    def _start_again(self) -> None:
        """Its server processes see that the postmaster has gone, and go; a new one waits for them, by itself."""
        with self._cluster._lock:
            if not self._processes():  # the locks of a process that nobody has waited for yet (a zombie) look held
                for lock in (self._data / "postmaster.pid", *self._data.glob(".s.PGSQL.*.lock")):
                    lock.unlink(missing_ok=True)
            self._cluster.ensure_postgres_running()
        log.info("process_started", process="postgresql", pid=self._cluster.get_pid())

    def _postmaster(self) -> psutil.Process | None:
        """By the pid that its own file tells now."""
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE and process.name() == "postgres":
                return process
        return None

    def _processes(self) -> list[psutil.Process]:
        """All that work in its folder, whoever their parent is."""
        found = []
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if process.info["name"] == "postgres" and process.cwd() == str(self._data):
                    found.append(process)
        return found

    def _end(self, by_s: float) -> None:
        """Fast shutdown, then as in a crash: what was committed is in the log, and read again at the next start."""
        postmaster = self._postmaster()
        left_s = max(0.0, by_s - time.monotonic())
        for signum, within_s in ((signal.SIGINT, left_s * GENTLE_S), (signal.SIGQUIT, left_s * (1 - GENTLE_S) / 2)):
            if postmaster is None or _has_ended(postmaster, signum, within_s):
                break
        for process in self._processes():  # frozen, or left behind
            log.warning("process_killed", process="postgresql", pid=process.pid)
            with suppress(psutil.Error):
                process.kill()


def _has_ended(process: psutil.Process, signum: signal.Signals, within_s: float) -> bool:
    by_s = time.monotonic() + within_s
    try:
        process.send_signal(signum)
        while process.status() != psutil.STATUS_ZOMBIE:  # which is somebody else's to wait for
            if time.monotonic() > by_s:
                return False
            time.sleep(POLL_S)
    except psutil.NoSuchProcess:
        pass
    return True


@contextmanager
def _told() -> Iterator[Any]:
    """Whatever keeps it from starting (still recovering, disk full): said, and tried again."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the watch must go on
        log.warning("process_not_started", process="postgresql", error=type(error).__name__)

"""A child process beside the workers: started again when it ends, stopped by its own pid."""

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence

import structlog

PAUSES_S = (0.2, 1.0, 5.0, 15.0)  # between restarts; the last for all further ones
STOP_S = 10.0  # to end gracefully; then it is killed
log = structlog.get_logger(__name__)


class Companion:
    """Watched by a thread of its own; whatever it was doing must be safe to do again."""

    def __init__(self, name: str, command: Sequence[str], *, environ: Mapping[str, str]) -> None:
        self._name = name
        self._command = list(command)
        self._environ = {**os.environ, **environ}
        self._stopping = threading.Event()
        self._process = self._begin()
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._watcher.start()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for one that does not listen."""
        self._stopping.set()
        self._process.terminate()
        self._watcher.join(STOP_S)
        if self._watcher.is_alive():
            log.warning("process_killed", process=self._name, pid=self.pid)
            self._process.kill()
            self._watcher.join(STOP_S)

    def _begin(self) -> "subprocess.Popen[bytes]":
        """A session of its own: a Ctrl-C in the terminal is for the parent, which then ends its children in order."""
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            self._command, env=self._environ, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def _watch(self) -> None:
        deaths = 0
        while True:
            status = self._process.wait()
            if self._stopping.is_set():
                return
            log.error("process_ended", process=self._name, pid=self.pid, status=status)
            if self._stopping.wait(PAUSES_S[min(deaths, len(PAUSES_S) - 1)]):
                return
            deaths += 1
            self._process = self._begin()
            if self._stopping.is_set():  # stop() has spoken to the one before
                self._process.terminate()

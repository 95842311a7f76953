"""A child process of the supervisor: started again when it ends or hangs, after pauses of its own; stopped by its pid.

Whatever it was doing must be safe to do again.
"""

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from gateway import metrics
from gateway.lifeline import READY

PAUSES_S = (0.2, 1.0, 5.0, 15.0)  # between restarts; the last for all further ones
STEADY_S = 60.0  # who lived that long starts again without the pauses of before
START_S = 60.0  # a child that has not shown a pulse by then hangs in its start
LOOK_S = 0.25
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Role:
    """What runs. The child gets the number of its pulse's descriptor as its last argument."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    silence_s: float  # without a pulse for so long it hangs: it is killed and replaced
    inherits: tuple[int, ...] = field(default=())  # descriptors


class _Life:
    """One process, from its start to its end."""

    def __init__(self, role: Role) -> None:
        self.pulse, theirs = os.pipe()
        os.set_blocking(self.pulse, False)
        os.set_blocking(theirs, False)
        try:
            # A session of its own: a Ctrl-C in the terminal is for the parent, which then ends its children in order.
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*role.command, str(theirs)], env={**os.environ, **role.environ}, stdin=subprocess.DEVNULL,
                start_new_session=True, pass_fds=(theirs, *role.inherits),
            )  # fmt: skip
        except OSError:
            os.close(self.pulse)
            raise
        finally:
            os.close(theirs)
        self.began_s = time.monotonic()
        self._due_s = self.began_s + START_S
        self.ready = threading.Event()

    def listen(self, silence_s: float) -> bool:
        """Wait a moment for the pulse; False: it has been silent for too long."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.pulse, selectors.EVENT_READ)
            heard = os.read(self.pulse, 4096) if selector.select(LOOK_S) else b""
        if heard:  # read before judged: should we have been stopped ourselves, the pulse waits in the pipe
            self._due_s = time.monotonic() + silence_s
        if READY in heard:
            self.ready.set()
        return time.monotonic() < self._due_s

    def close(self) -> None:
        os.close(self.pulse)


class Companion:
    """One child after the other, watched by a thread of its own."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # of a child's beginning and the word that no other may begin
        self._life = _Life(role)
        self.deaths = 0  # since it last was steady
        self.was_ready = False  # ever
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{role.name}", daemon=True)

    @property
    def pid(self) -> int:
        return self._life.process.pid

    @property
    def is_ready(self) -> bool:
        """It said so, and has not ended since."""
        return self._life.ready.is_set() and self._life.process.poll() is None

    @property
    def has_ended(self) -> bool:
        """As it was asked to."""
        return not self._watcher.is_alive()

    def start(self) -> None:
        self._watcher.start()

    def ask(self, signum: int = signal.SIGTERM) -> None:
        """To end, in its own time; it is not started again."""
        with self._lock:
            self._stopping.set()
            self._life.process.send_signal(signum)

    def finish(self, by_s: float) -> None:
        """Wait for the end of one that was asked; at that moment of the monotonic clock it is killed."""
        self._watcher.join(max(0.0, by_s - time.monotonic()))
        if self._watcher.is_alive():
            log.warning("process_killed", process=self._role.name, pid=self.pid)
            self._life.process.kill()
            self._watcher.join()

    def _watch(self) -> None:
        while True:
            status = self._outlive()
            if self._stopping.is_set():
                log.info("process_left", process=self._role.name, pid=self.pid, status=status)
                return
            log.error("process_ended", process=self._role.name, pid=self.pid, status=status)
            if time.monotonic() - self._life.began_s > STEADY_S:
                self.deaths = 0
            self.deaths += 1
            if self._stopping.wait(PAUSES_S[min(self.deaths, len(PAUSES_S)) - 1]):
                return
            if not self._begin():
                return

    def _begin(self) -> bool:
        """The next child; False: we were asked to end. No memory or no descriptors: later, as there may be again."""
        while not self._stopping.is_set():
            try:
                with self._lock:
                    if not self._stopping.is_set():
                        self._life = _Life(self._role)
                        return True
            except OSError as error:
                log.error("process_not_started", process=self._role.name, error=type(error).__name__)
                self._stopping.wait(PAUSES_S[-1])
        return False

    def _outlive(self) -> int:
        """The exit status of the present child, ended by itself or because it hung."""
        life, cause = self._life, "ended"
        while (status := life.process.poll()) is None:
            alive = life.listen(self._role.silence_s)
            self.was_ready = self.was_ready or life.ready.is_set()
            if not alive and cause == "ended" and not self._stopping.is_set():
                cause = "hung"
                log.error("process_hung", process=self._role.name, pid=life.process.pid)
                life.process.kill()  # works on a stopped one, too
        life.close()
        if not self._stopping.is_set():
            metrics.count("parasol_processes_lost_total", process=self._role.name, cause=cause)
        return status

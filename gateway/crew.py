"""The processes of a gateway: workers, back office and metrics hub, each kept alive by itself, renewed, ended together.

SIGHUP (`parasol reload`) starts workers of the version that is installed by then, and lets the old ones go once the new
ones are ready: both listen on one socket, so nobody is refused. SIGTERM and SIGINT end all, within LEAVE_S.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

import msgspec
import structlog

from gateway import metrics
from gateway.companion import Companion, Role
from gateway.port import CannotServe, let_nobody_new_in
from gateway.settings import Settings, to_environment

LEAVE_S = 10.0  # from the order to leave to the end of the last process, always
WORKERS_S = 6.5  # of it for open requests, the drain included; who is not ready by then is killed
COMPANIONS_S = 7.5  # and for back office and hub; the rest is PostgreSQL's
SILENCE_S = 8.0  # a worker without a pulse for so long hangs; a busy machine must not look like that
COMPANION_SILENCE_S = 60.0  # a chore or a page may compute for seconds, and no partner waits for it
REPLACED_S = 3.0  # for a hub or a back office whose successor is to come, or is there
NEVER_READY = 3  # deaths of each worker, none of which ever was ready: it is not going to get better by itself
RENEW_S = 60.0  # for the new workers to get ready; if they don't, the old ones stay
POLL_S = 0.05
LINE = 64  # bytes of the account, always
RENEWS = "renews"  # its word from the order to renew to the end of that
log = structlog.get_logger(__name__)


class WorkersDoNotStart(CannotServe):
    """Each one ended again and again, and none was ever ready."""

    def __init__(self) -> None:
        super().__init__("The workers end while starting; the lines above say why")


class Departure:
    """When the gateway was told to leave: every part of leaving has its moment after that."""

    def __init__(self) -> None:
        self._began_s: float | None = None

    def by(self, within_s: float) -> float:
        """On the monotonic clock; the first who asks begins it."""
        if self._began_s is None:
            self._began_s = time.monotonic()
        return self._began_s + within_s


class Account:
    """The line in the home's lock file, `PID RENEWALS WORD`: for who wants to know whom to signal, and how it went."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._renewals = 0

    def write(self, word: str) -> None:
        """In one piece over the line of before: who reads sees one or the other, and a full disk has room for it."""
        line = f"{os.getpid()} {self._renewals} {word}".ljust(LINE - 1) + "\n"
        try:
            os.pwrite(self._file.fileno(), line.encode(), 0)
        except OSError as error:  # nobody can reload then, and everybody is served
            log.error("account_not_written", error=type(error).__name__)

    def write_renewal(self, word: str) -> None:
        self._renewals += 1
        self.write(word)


class Crew:
    """What `parasol serve` watches over while it serves."""

    def __init__(
        self, settings: Settings, listener: socket.socket, *, application: str, account: Account, departure: Departure
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._account = account
        self._departure = departure
        self._asked_to_leave = self._asked_to_renew = False
        environ = to_environment(msgspec.structs.replace(settings, chores="elsewhere"))
        python, pid, hub = sys.executable, str(os.getpid()), settings.metrics_socket
        self._hub_role = Role(
            "metrics-hub", [python, "-m", "gateway.metrics.hub", hub, pid], environ, COMPANION_SILENCE_S
        )
        self._office_role = Role(
            "back-office", [python, "-m", "gateway.backoffice", pid],
            to_environment(msgspec.structs.replace(settings, chores="inline")), COMPANION_SILENCE_S,
        )  # fmt: skip
        self._worker_role = Role(
            "worker", [python, "-m", "gateway.worker", application, pid, str(listener.fileno())],
            environ, SILENCE_S, inherits=(listener.fileno(),),
        )  # fmt: skip
        self._hub: list[Companion] = []
        self._office: list[Companion] = []
        self._workers: list[Companion] = []
        self._old: list[Companion] = []  # workers that were replaced and end in their own time

    def work(self) -> None:
        """Until SIGTERM or SIGINT."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._hear)  # these set a word and no more: a handler may interrupt anything
        try:
            self._hub = _start([self._hub_role])
            with metrics.feeding(self._settings.metrics_socket):
                self._office = _start([self._office_role])
                self._workers = _start([self._worker_role] * self._settings.workers)
                self._account.write("serves")
                self._watch()
        finally:
            self._leave()

    def _watch(self) -> None:
        while not self._asked_to_leave:
            time.sleep(POLL_S)
            if self._asked_to_renew:
                self._asked_to_renew = False
                self._renew()
            if all(not worker.was_ready and worker.deaths >= NEVER_READY for worker in self._workers):
                raise WorkersDoNotStart

    def _renew(self) -> None:
        """The hub first, as it has to know the new workers' numbers; then the workers; then the back office."""
        log.info("renewal_begins", count=len(self._workers))
        self._account.write(RENEWS)
        _stop(self._hub)
        self._hub = _start([self._hub_role])
        fresh = _start([self._worker_role] * self._settings.workers)
        self._wait_for(lambda: all(w.is_ready for w in fresh) or any(w.deaths for w in fresh), within_s=RENEW_S)
        if self._asked_to_leave:
            self._workers += fresh
            return
        if not all(worker.is_ready for worker in fresh):
            _stop(fresh)
            log.error("renewal_failed", count=len(fresh))
            self._account.write_renewal("failed")
            return
        self._old, self._workers = self._workers, fresh
        for worker in self._old:
            worker.ask(signal.SIGUSR1)
        self._wait_for(lambda: all(worker.has_ended for worker in self._old), within_s=WORKERS_S)
        if self._asked_to_leave:
            return
        _finish(self._old, time.monotonic())
        self._old = []
        office, self._office = self._office, _start([self._office_role])
        _stop(office)
        log.info("renewal_done", count=len(fresh))
        self._account.write_renewal("done")

    def _leave(self) -> None:
        workers = [*self._workers, *self._old]
        by_s = self._departure.by(WORKERS_S)
        for child in (*workers, *self._office):
            child.ask()
        drained_by_s = self._departure.by(self._settings.drain_s)
        while time.monotonic() < drained_by_s and not all(worker.has_ended for worker in workers):
            time.sleep(POLL_S)  # whoever still runs may have told a balancer that it is ready before it told us
        let_nobody_new_in(self._listener)
        _finish(workers, by_s)
        for child in self._hub:
            child.ask()
        _finish([*self._office, *self._hub], self._departure.by(COMPANIONS_S))

    def _wait_for(self, question: Callable[[], bool], *, within_s: float) -> None:
        """Until it is so, or time is up, or we have to leave."""
        by_s = time.monotonic() + within_s
        while not question() and not self._asked_to_leave and time.monotonic() < by_s:
            time.sleep(POLL_S)

    def _hear(self, signum: int, _: object) -> None:
        if signum == signal.SIGHUP:
            self._asked_to_renew = True
        else:
            self._departure.by(0.0)  # it begins now, whatever we are doing
            self._asked_to_leave = True


def _start(roles: Sequence[Role]) -> list[Companion]:
    started = [Companion(role) for role in roles]
    for companion in started:
        companion.start()
    return started


def _stop(companions: Sequence[Companion]) -> None:
    for companion in companions:
        companion.ask()
    _finish(companions, time.monotonic() + REPLACED_S)


def _finish(companions: Sequence[Companion], by_s: float) -> None:
    for companion in companions:
        companion.finish(by_s)

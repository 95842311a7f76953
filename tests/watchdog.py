"""Says where a run of the tests stands when it hangs, and ends it: in a test, a fixture, the collection, the way out.

A plugin of pytest's, in each of its processes. A thread of its own looks; where nothing lets that run, it is left to
the faulthandler. Where one of several processes is ended, pytest says which test it was at and ends the run.
"""

import asyncio
import faulthandler
import gc
import linecache
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

LOOK_S = 0.2
LEAVING_S = 60.0  # from the last test's end to the end of the process
FORGIVING = 0.9  # of pytest's own limit for a test: the faulthandler sees no coroutines, so it comes second
TIDYING_S = 10.0
OTHERS_FIRST_S = 30.0  # a process that leads others lets them say first where they stand
STATUS = 70  # EX_SOFTWARE
stderr = os.fdopen(os.dup(2), "w", buffering=1)  # now, before pytest catches what tests write
before_end: list[Callable[[], object]] = []  # what fixtures have started outside of this process tree, to be ended


class Watchdog:
    """What this process is at, since when, and how long that may take."""

    def __init__(self, config: pytest.Config) -> None:
        self._test_s = FORGIVING * float(config.getini("faulthandler_timeout"))
        self._name = os.environ.get("PYTEST_XDIST_WORKER", "pytest")
        self._is_led = self._name != "pytest"
        self._leads = bool(getattr(config.option, "tx", None)) and not self._is_led
        self._leaving_s = LEAVING_S if self._leads else min(LEAVING_S, self._test_s)
        self._run_s = float(config.getini("run_timeout")) + (OTHERS_FIRST_S if self._leads else 0)
        self._started = time.monotonic()
        self._running: list[str] = []  # where this process leads others: the tests that those are at
        self._at("collecting", self._run_s if self._leads else self._test_s)
        faulthandler.dump_traceback_later(self._run_s + LEAVING_S, exit=True, file=stderr)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _at(self, stage: str, limit_s: float) -> None:
        self._stage, self._since, self._limit_s = stage, time.monotonic(), limit_s

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._at(item.nodeid, self._test_s)
        result = yield
        self._at("between two tests", self._run_s if self._is_led else self._test_s)  # the next one is told by another
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        self._stage = f"{item.nodeid}, its fixtures' end"

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self._leads:
            self._running.append(nodeid)
            self._at(f"waiting for {', '.join(self._running)}", self._run_s)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if self._leads and nodeid in self._running:
            self._running.remove(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """One that is led stays until the others are done; who leads it ends it, whatever it is at."""
        self._at("leaving, after the last test", self._run_s if self._is_led else self._leaving_s)
        if not self._is_led:
            faulthandler.dump_traceback_later(self._leaving_s + OTHERS_FIRST_S, exit=True, file=stderr)

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_S)
            now = time.monotonic()
            late_s, whole_s = now - self._since, now - self._started
            if late_s > self._limit_s or whole_s > self._run_s:
                self._tell(late_s, whole_s)
                self._end()

    def _tell(self, late_s: float, whole_s: float) -> None:
        stderr.write(
            f"\n=== The tests hang. {self._name} (process {os.getpid()}), {whole_s:.0f} s after its start, "
            f"for {late_s:.0f} s: {self._stage}\n"
        )
        for loop in (each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop)):
            for task in asyncio.all_tasks(loop):
                stderr.write(f"--- Task {task.get_name()}\n" + "".join(_awaiting(task.get_coro())))
        stderr.write("--- Threads\n")
        faulthandler.dump_traceback(file=stderr, all_threads=True)
        stderr.write("=== The end of it\n")

    def _end(self) -> None:
        tidying = threading.Thread(target=_tidy_up, daemon=True)  # which may hang as well
        tidying.start()
        tidying.join(TIDYING_S)
        os._exit(STATUS)


def _awaiting(coroutine: Any) -> Iterator[str]:
    """Where it stands, and what it waits for, down to the last of them; a task alone tells the first line only."""
    while coroutine is not None:
        kind = _kind(coroutine)
        if kind is None:  # what stands between an asynchronous generator and who awaits it shows only that it holds it
            coroutine = next((each for each in gc.get_referents(coroutine) if _kind(each)), None)
            continue
        frame = getattr(coroutine, f"{kind}_frame")
        if frame is None:
            return
        file, line = frame.f_code.co_filename, frame.f_lineno
        yield f'  File "{file}", line {line} in {frame.f_code.co_name}\n    {linecache.getline(file, line).strip()}\n'
        coroutine = getattr(coroutine, f"{kind}_yieldfrom" if kind == "gi" else f"{kind}_await")


def _kind(awaited: object) -> str | None:
    return next((kind for kind in ("cr", "gi", "ag") if hasattr(awaited, f"{kind}_frame")), None)


def _tidy_up() -> None:
    for child in psutil.Process().children(recursive=True):
        child.terminate()
    for end in before_end:
        end()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("run_timeout", "seconds that a whole run of the tests may take", default="1200")


def pytest_configure(config: pytest.Config) -> None:
    debugging = getattr(config.option, "usepdb", False) or sys.gettrace() is not None
    if not debugging and float(config.getini("faulthandler_timeout")) > 0:
        config.pluginmanager.register(Watchdog(config), "watchdog of a run")

"""Where nobody takes the log any more: lines are dropped and counted; no request, chore or process ends for it."""

import asyncio
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import msgspec
import pytest
import structlog

from gateway import log, metrics
from gateway.chores import Chore, run_once
from gateway.log import LINES_DROPPED
from gateway.metrics.wire import Hello, framed, read_frame
from tests.conftest import CONSENTS, World
from tests.faults.test_database_away import change_tables

PIPE_BYTES = 1 << 20  # more than any pipe holds


@contextmanager
def pipe_without_reader() -> Iterator[TextIO]:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as stream:
        yield stream


@contextmanager
def pipe_that_nobody_empties() -> Iterator[TextIO]:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with suppress(BlockingIOError):
        while os.write(writes, b"." * PIPE_BYTES):
            pass
    os.set_blocking(writes, True)  # from here on a write waits
    with os.fdopen(writes, "w") as stream:
        yield stream
    os.close(reads)


@contextmanager
def full_disk() -> Iterator[TextIO]:
    with open("/dev/full", "w") as stream:  # takes nothing, like a disk without room
        yield stream


@contextmanager
def closed_stream() -> Iterator[TextIO]:
    with open(os.devnull, "w") as stream:
        pass
    yield stream


GONE = (pipe_without_reader, pipe_that_nobody_empties, full_disk, closed_stream)


Stream = Callable[[], AbstractContextManager[TextIO]]
for_each_stream = pytest.mark.parametrize("stream", GONE, ids=lambda made: made.__name__)


@contextmanager
def logging_to(stream: Stream) -> Iterator[None]:
    """This process logs to something that takes no line. Set in the test itself: pytest has its own before it."""
    root, usual = logging.getLogger(), sys.stderr
    handlers, level, before = list(root.handlers), root.level, structlog.get_config()
    with stream() as sys.stderr:
        log.configure("info")
        try:
            yield
        finally:
            sys.stderr = usual
            structlog.configure(**before)
            root.handlers, root.level = handlers, level


async def dropped() -> float:
    lines = (await metrics.page()).decode().splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{LINES_DROPPED} ")), 0.0)


async def fail(now_ms: int) -> int:
    raise ValueError(now_ms)


@for_each_stream
async def test_a_lost_log_ends_no_chore_and_is_counted(stream: Stream) -> None:
    before = await dropped()
    with logging_to(stream):
        assert await run_once(Chore("fails", 1, fail)) == 0
        logging.getLogger("some.library").warning("said %s", "this")
    assert await dropped() == before + 2


@for_each_stream
async def test_a_lost_log_changes_no_answer(stream: Stream, shared_world: World) -> None:
    """A bug is answered with a problem document and logged; the answer comes all the same."""
    client, before = shared_world.client("parkco"), await dropped()
    token = await client.token("accounts")
    await change_tables(shared_world, "ALTER TABLE consent RENAME TO away")
    try:
        with logging_to(stream):
            answer = await client.call("GET", f"{CONSENTS['accounts'][1]}/unknown", token=token)
    finally:
        await change_tables(shared_world, "ALTER TABLE away RENAME TO consent")
    assert (answer.status_code, answer.json()["Code"]) == (500, "500 gateway_error")
    assert await dropped() > before


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no words")


async def test_a_line_that_cannot_be_made_is_dropped_and_counted() -> None:
    bound = structlog.wrap_logger(
        log.LineWriter(), processors=[log.keep_allowed, log.to_line],
        wrapper_class=log.never_raising(structlog.make_filtering_bound_logger(logging.INFO)),
    )  # fmt: skip
    before = await dropped()
    bound.info("claim_decided", reason=Unspeakable())
    assert await dropped() == before + 1


def test_half_a_character_of_a_file_name_is_written_as_what_it_stands_for() -> None:
    assert log.to_line(None, "info", {"file": os.fsdecode(b"a\xff")}) == b'{"file":"a\\\\udcff"}\n'


def test_a_line_is_never_longer_than_a_pipe_takes_at_once() -> None:
    for keys in (log.KEYS, sorted(log.KEYS)[:8]):
        line = log.to_line(None, "info", dict.fromkeys(keys, "\u0001" * log.TEXT_LIMIT))
        assert len(line) <= log.LINE_LIMIT
        assert line.endswith(b"}\n")


def test_after_half_a_line_the_next_one_stands_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that fills up in the middle of a line."""
    with (tmp_path / "log").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        writer, write = log.LineWriter(), os.write
        monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:3]))
        with pytest.raises(BlockingIOError):
            writer.msg(b'{"event":"a"}\n')
        monkeypatch.setattr(os, "write", write)
        writer.msg(b'{"event":"b"}\n')
        writer.msg(b'{"event":"c"}\n')
    assert (tmp_path / "log").read_text() == '{"e\n{"event":"b"}\n{"event":"c"}\n'


async def test_a_metrics_hub_whose_log_is_gone_goes_on() -> None:
    with tempfile.TemporaryDirectory(prefix="parasol-hub-") as folder, full_disk() as stream:
        path = f"{folder}/hub.sock"
        hub = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.metrics.hub", path, str(os.getpid()), stdout=stream, stderr=stream
        )
        try:
            reader, writer = await connected(path, hub)
            writer.write(framed(b"not a greeting"))  # logged, and that fails
            assert await reader.read() == b""
            writer.close()
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(framed(msgspec.msgpack.encode(Hello("page"))))
            page = (await read_frame(reader)).decode()
            writer.close()
            assert f"{LINES_DROPPED} 1.0" in page.splitlines()
            assert hub.returncode is None
        finally:
            hub.terminate()
            await hub.wait()


async def connected(path: str, hub: asyncio.subprocess.Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As soon as it listens."""
    while True:
        assert hub.returncode is None, "it ended while starting"
        try:
            return await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(0.02)


def test_a_stream_in_memory_gets_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stderr", memory)
    log.LineWriter().msg(b"{}\n")
    assert memory.getvalue() == "{}\n"

"""The metrics hub: a process of its own that asks every worker for its numbers and renders the one page of all of them.

`python -m gateway.metrics.hub SOCKET PARENT [PULSE]`: the pid of the process that it ends with, and the descriptor of
its pulse. It holds nothing but numbers:
when it restarts, the workers connect again and only what departed workers had counted is forgotten, which Prometheus
takes as a counter's reset.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import structlog

from gateway.collector import pass_over_what_is_here
from gateway.lifeline import READY, beat, end_with_parent, tell
from gateway.log import LINES_DROPPED, configure
from gateway.metrics import own_count
from gateway.metrics.blend import Numbers, Tally, unpack_into
from gateway.metrics.declared import METRICS
from gateway.metrics.exposition import render
from gateway.metrics.listener import MetricsListener
from gateway.metrics.wire import ASK, Hello, framed, read_frame
from gateway.settings import read_settings
from gateway.watched import watch

ANSWER_S = 1.0  # a worker that takes longer is shown with the numbers it sent last
log = structlog.get_logger(__name__)
_hello = msgspec.msgpack.Decoder(Hello)


@dataclass(slots=True, eq=False)
class Source:
    """A connected process: what it sent last, and who waits for what it will send next."""

    writer: asyncio.StreamWriter
    numbers: Numbers = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """Both ends of the story: processes that feed, scrapes that read."""

    def __init__(self) -> None:
        self._tally = Tally(METRICS)
        self._sources: set[Source] = set()
        self._one_page = asyncio.Lock()
        self._meetings: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, path: str) -> asyncio.Server:
        """Listen; only this user may connect. A socket that a killed hub left behind is replaced."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        before = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._meet, path)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """End the conversations, so that none is cut in a sentence."""
        for writer in self._meetings.values():
            writer.close()
        if self._meetings:
            await asyncio.wait(self._meetings, timeout=ANSWER_S)

    async def page(self) -> bytes:
        """Ask all sources at once; one page at a time, as the interpreter has one thread for it anyway."""
        async with self._one_page:
            sources = list(self._sources)
            await asyncio.gather(*(self._refresh(source) for source in sources))
            total = self._tally.page(source.numbers for source in sources)
            total.gauge("parasol_processes", len(sources))
            total.count(LINES_DROPPED, own_count(LINES_DROPPED))
            return render(total)

    async def _refresh(self, source: Source) -> None:
        source.arrived.clear()
        with suppress(OSError, TimeoutError):
            source.writer.write(ASK)
            async with asyncio.timeout(ANSWER_S):
                await source.arrived.wait()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs each connection as a task"
        self._meetings[task] = writer
        try:
            hello = _hello.decode(await read_frame(reader))
            if hello.wants == "page":
                writer.write(framed(await self.page()))
                await writer.drain()
            else:
                await self._listen(reader, Source(writer))
        except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
            log.info("metrics_connection_ended", error=type(error).__name__)
        finally:
            del self._meetings[task]
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader, source: Source) -> None:
        self._sources.add(source)
        arriving: Numbers = {}
        try:
            while True:
                if frame := await read_frame(reader):
                    unpack_into(arriving, frame)
                else:  # complete: only now it counts
                    source.numbers, arriving = arriving, {}
                    source.arrived.set()
        except asyncio.IncompleteReadError:
            return
        finally:
            self._sources.discard(source)
            self._tally.depart(source.numbers)
            source.arrived.set()


async def run(path: str, pulse: int | None = None, *, host: str = "", port: int = 0) -> None:
    """Serve until SIGTERM: the workers' socket, and the page on a port of its own where one is given."""
    beating = watch("pulse", beat(pulse)) if pulse is not None else None
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    hub = Hub()
    servers = [await hub.serve(path)]
    if port:
        servers.append(await MetricsListener(hub.page).serve(host, port))
    pass_over_what_is_here()
    if pulse is not None:
        tell(pulse, READY)
    await ended.wait()
    for server in servers:
        server.close()
    await hub.close()
    os.unlink(path)
    if beating is not None:
        await beating.end()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[2]))
    own, pulse = read_settings(), int(sys.argv[3]) if len(sys.argv) > 3 else None
    configure(own.log_level)
    asyncio.run(run(sys.argv[1], pulse, host=own.metrics_host, port=own.metrics_port))

"""What is done to the gateway, each with its evidence that it bit; a drill whose fault did not is void.

`strike` returns when the fault is over; recovery is what the runner then waits for and measures.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import psutil

from tests.drills.ground import Ground, kill, stopped
from tests.faults.serving import eventually

FROZEN_S = 4.0
AWAY_S = 3.0
MINUTES, DAY_S = 600, 86_400
JUMPS = ((MINUTES, 5.0), (-MINUTES, 5.0), (DAY_S, 12.0), (-DAY_S, 5.0))  # by seconds, for seconds: rows are dropped
CONNECTIONS = 110  # more than the server has


class DidNotBite(Exception):
    """The fault was not to be seen; the run says nothing."""


@dataclass(frozen=True, slots=True)
class Drill:
    """`resets`: a process is killed, so what it had begun may be reset. `unready`: /readyz must say so meanwhile."""

    name: str
    strike: Callable[[Ground], Awaitable[str]]
    resets: bool = False
    unready: bool = False
    settles: bool = False  # what is pending afterwards must be decided before the audit: a minute and more
    short: bool = False
    alone: str = ""  # a ground of its own: "pipe" for its log, "tmpfs" for its home, "clock" for its time


async def kill_a_worker(ground: Ground) -> str:
    victim = min(ground.serving.workers())
    kill(victim)
    await seen(lambda: victim not in ground.serving.workers() and len(ground.serving.workers()) == 2)
    return "one of two killed, another started"


async def kill_all_workers(ground: Ground) -> str:
    victims = ground.serving.workers()
    for victim in victims:
        kill(victim)
    await seen(lambda: not victims & ground.serving.workers() and len(ground.serving.workers()) == 2)
    return "both killed, both started again"


async def hang_a_worker(ground: Ground) -> str:
    victim = min(ground.serving.workers())
    os.kill(victim, signal.SIGSTOP)
    await seen(lambda: victim not in ground.serving.workers())
    if '"process_hung"' not in ground.serving.log():
        raise DidNotBite("nobody noticed that it hung")
    return "stopped; noticed and replaced"


def kill_companion(module: str) -> Callable[[Ground], Awaitable[str]]:
    async def strike(ground: Ground) -> str:
        [victim] = ground.serving.of(module)
        victim.kill()
        await seen(lambda: any(other.pid != victim.pid for other in ground.serving.of(module)))
        return "killed, another started"

    return strike


async def freeze_postgresql(ground: Ground) -> str:
    with stopped(ground.postgres()):
        await asyncio.sleep(FROZEN_S)
    return f"stood still for {FROZEN_S:.0f} s"


async def restart_postgresql(ground: Ground) -> str:
    return await end_postgresql(ground, signal.SIGINT)


async def kill_postgresql(ground: Ground) -> str:
    return await end_postgresql(ground, signal.SIGKILL)


async def end_postgresql(ground: Ground, signum: signal.Signals) -> str:
    before = ground.serving.postmaster()
    os.kill(before, signum)
    await seen(lambda: ground.serving.postmaster() != before)
    return f"{signum.name}, and started again by its gateway"


async def drop_sessions(ground: Ground) -> str:
    dropped = 0
    async with ground.owner() as conn:
        for _ in range(6):
            dropped += await conn.fetchval(
                """SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"""
            )
            await asyncio.sleep(0.3)
    if not dropped:
        raise DidNotBite("no session was there")
    return f"{dropped} sessions ended in six blows"


async def exhaust_connections(ground: Ground) -> str:
    """Ours take all that the server has, after the gateway's were ended."""
    held: list[asyncpg.Connection[asyncpg.Record]] = []
    refused = 0
    try:
        async with ground.owner() as conn:
            for _ in range(CONNECTIONS):
                try:
                    held.append(await asyncpg.connect(ground.url))
                except asyncpg.TooManyConnectionsError:
                    refused += 1
                    await conn.execute(
                        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'parasol'
                           AND pid <> pg_backend_pid()"""
                    )
            await asyncio.sleep(AWAY_S)
    finally:
        for one in held:
            one.terminate()
    if not refused:
        raise DidNotBite("the server had connections left")
    return f"{len(held)} connections held, {refused} refused, for {AWAY_S:.0f} s"


async def fail_at_the_bank(ground: Ground) -> str:
    effects = ("lose_answer", "lose_request", "reject", "pend")
    await inject(ground, effects, times=3)
    async with ground.owner() as conn:
        by_s = time.monotonic() + 20.0
        left = 12
        while left and time.monotonic() < by_s:
            await asyncio.sleep(0.2)
            left = await conn.fetchval("SELECT coalesce(sum(remaining), 0) FROM sandbox_bank.fault")
    if left == 12:
        raise DidNotBite("no order met a fault")
    return f"{12 - left} orders: {', '.join(effects)}"


async def reload(ground: Ground) -> str:
    before = ground.serving.workers()
    command = [sys.executable, "-m", "gateway.cli", "reload", "--home", str(ground.serving.home)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True)
    if done.returncode or before & ground.serving.workers():
        raise DidNotBite(done.stderr.decode())
    return "new workers took over"


async def leave_and_come_back(ground: Ground) -> str:
    await asyncio.to_thread(ground.leave)
    await asyncio.to_thread(ground.start)
    return "SIGTERM, then started again"


async def kill_the_supervisor(ground: Ground) -> str:
    """Its children end by themselves; the next gateway takes the database over as it is."""
    children = [child for child in ground.serving.children() if "gateway" in " ".join(child.cmdline())]
    ground.serving.process.kill()
    ground.serving.process.wait()
    await asyncio.to_thread(psutil.wait_procs, children, 15.0)
    await asyncio.to_thread(ground.start)
    return "SIGKILL, then started again"


async def restore_a_copy(ground: Ground) -> str:
    """The gateway is left, its home copied, the original thrown away, and the copy served: a cold backup."""
    await asyncio.to_thread(ground.leave)
    home, kept = ground.folder / "home", ground.folder / "backup"
    await asyncio.to_thread(copy_tree, home, kept)
    await asyncio.to_thread(shutil.rmtree, home)
    kept.rename(home)
    await asyncio.to_thread(ground.start)
    return "home copied, removed, and served from the copy"


def copy_tree(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


async def lose_the_log(ground: Ground) -> str:
    """Whoever read it has gone; then things happen that are worth a line."""
    os.close(ground.log_reader)
    await drop_sessions(ground)
    victim = min(ground.serving.workers())
    kill(victim)
    await seen(lambda: victim not in ground.serving.workers() and ground.serving.is_ready())
    lines = ground.serving.get("/metrics").text.splitlines()
    lost = next((line.split()[1] for line in lines if line.startswith("parasol_log_lines_dropped_total ")), "0")
    if float(lost) == 0:
        raise DidNotBite("no line was lost")
    return f"{float(lost):.0f} lines dropped and counted"


async def fill_the_disk(ground: Ground) -> str:
    ballast, missing = ground.folder / "ballast", ""
    try:
        with ballast.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        by_s = time.monotonic() + 15.0
        while time.monotonic() < by_s and missing not in ("disk", "database"):
            with suppress(httpx.HTTPError, ValueError):
                answer = await asyncio.to_thread(ground.serving.get, "/readyz")
                missing = answer.json().get("missing", "")
            await asyncio.sleep(0.2)
        await asyncio.sleep(AWAY_S)
    finally:
        ballast.unlink(missing_ok=True)
    if not missing:
        raise DidNotBite("nobody noticed")
    return f"no byte left; /readyz says {missing}"


async def move_the_clock(ground: Ground) -> str:
    """A day ahead the bank also loses an order on its way here and an answer on its way back."""
    try:
        for offset_s, lasting_s in JUMPS:
            ground.move_clock(offset_s)
            if offset_s == DAY_S:
                await inject(ground, ("lose_request", "lose_answer"), times=1)
            await asyncio.sleep(lasting_s)
    finally:
        ground.move_clock(0)
    return "ten minutes ahead, ten behind, a day ahead, a day behind, true again"


async def inject(ground: Ground, effects: Sequence[str], *, times: int) -> None:
    async with ground.owner() as conn:
        await conn.executemany(
            "INSERT INTO sandbox_bank.fault (effect, remaining) VALUES ($1, $2)", [(one, times) for one in effects]
        )


async def seen(question: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, question)


DRILLS = (
    Drill("a worker killed", kill_a_worker, resets=True, short=True),
    Drill("all workers killed", kill_all_workers, resets=True),
    Drill("a worker hung", hang_a_worker, resets=True),
    Drill("back office killed", kill_companion("gateway.backoffice")),
    Drill("metrics hub killed", kill_companion("gateway.metrics.hub")),
    Drill("PostgreSQL frozen", freeze_postgresql, unready=True),
    Drill("PostgreSQL restarted", restart_postgresql),
    Drill("PostgreSQL killed", kill_postgresql, short=True),
    Drill("sessions dropped", drop_sessions, short=True),
    Drill("connections exhausted", exhaust_connections, unready=True),
    Drill("bank faults", fail_at_the_bank, settles=True),
    Drill("upgrade (reload)", reload, short=True),
    Drill("left and started again", leave_and_come_back),
    Drill("supervisor killed", kill_the_supervisor, resets=True),
    Drill("restored from a copy", restore_a_copy),
    Drill("log gone", lose_the_log, resets=True, alone="pipe"),
    Drill("clock jumped", move_the_clock, settles=True, alone="clock"),
    Drill("disk full", fill_the_disk, unready=True, alone="tmpfs"),
)

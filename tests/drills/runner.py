"""One drill: clients at work, the fault, recovery, every wish carried to its end, then the audit; and its line."""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import memory_folder
from tests.drills.auditor import Auditor
from tests.drills.clients import Clients
from tests.drills.faults import DidNotBite, Drill
from tests.drills.ground import Ground
from tests.drills.journal import Journal
from tests.faults.serving import eventually

BEFORE_S, AFTER_S = 1.0, 1.5  # of undisturbed load
AFTER_JUMPS_S = 6.0  # for each kind of wish to come up again
LEAST = 5  # requests that overlap the fault; with fewer the run is void
KINDS = ("hold", "confirm", "release", "payment", "entry", "charge", "batch", "file")
LIE_S = 1.0  # at the end of a fault that must show at /readyz, a yes is a lie
RECOVERY_S = 60.0
SETTLED_S = 180.0  # an order without an answer is over after a minute, and is asked for at growing distances
SHOWN = 600  # characters of a failure
TMPFS = "640m"  # a fresh home with its log has room, and filling it takes a second


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the table. `found`: what was not as it should be; `void`: why the run says nothing."""

    name: str
    evidence: str
    requests: int
    during: int
    unanswered: int
    resets: int
    without_service_s: float
    recovered_s: float
    found: tuple[str, ...]
    void: str = ""

    @property
    def verdict(self) -> str:
        return "void" if self.void else "red" if self.found else "green"


async def carry_out(drill: Drill, ground: Ground) -> Result:
    """Over a ground that is ready. Raises nothing that the gateway is to blame for: that is in the result."""
    async with ground.stage() as stage:
        clients = Clients(stage, Journal(), (time.time, ground.now_s) if drill.alone == "clock" else (time.time,))
        await clients.prepare(ground.url)
        evidence, void, found = "", "", list[str]()
        async with clients.at_work():
            await asyncio.sleep(BEFORE_S)
            began_s = time.monotonic()
            try:
                evidence = await drill.strike(ground)
            except DidNotBite as error:
                void = str(error)
            except pytest.fail.Exception as error:
                found.append(str(error)[-SHOWN:])
            ended_s = time.monotonic()
            found += await recover(ground)
            recovered_s = time.monotonic()
            if not void:
                await asyncio.sleep(AFTER_JUMPS_S if drill.alone == "clock" else AFTER_S)
        found += await recover(ground)
        async with ground.owner() as conn:
            if drill.settles:
                found += await settle(clients, conn)
            found += await Auditor(clients, conn).audit(
                resets_allowed=drill.resets, expiries_allowed=drill.alone == "clock"
            )
        journal = clients.journal
        during = len(journal.within(began_s, recovered_s))
        void = void or says_nothing(drill, journal, during=during)
        if drill.alone == "clock":
            evidence += f"; {journal.untimely()} requests refused for their moment"
            found += [f"nobody got a yes to {kind} after the jumps" for kind in denied(journal, since_s=ended_s)]
        found += honest(drill, journal, began_s=began_s, ended_s=ended_s)
        heard = list(journal.heard())
        return Result(
            drill.name, evidence, len(heard), during, sum(not isinstance(one.what, int) for one in heard),
            journal.resets(), journal.longest_without_service_s(began_s, recovered_s + AFTER_S), recovered_s - ended_s,
            tuple(found), void,
        )  # fmt: skip


def says_nothing(drill: Drill, journal: Journal, *, during: int) -> str:
    """Why a run is void; empty where it is not."""
    if during < LEAST:
        return f"{during} requests met the fault"
    if lacking := denied(journal, since_s=0.0):
        return f"nobody got a yes to: {', '.join(lacking)}"
    return "no clock was seen to differ" if drill.alone == "clock" and not journal.untimely() else ""


def denied(journal: Journal, *, since_s: float) -> list[str]:
    """The kinds of wish that got no yes since then."""
    return [kind for kind in KINDS if not any(entry.granted_s > since_s for entry in journal.of(kind))]


async def settle(clients: Clients, conn: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    """Orders that the bank left pending are decided there; those without an answer end by themselves (ADR 0005)."""
    for row in await conn.fetch("SELECT order_id FROM sandbox_bank.bank_order WHERE status = 'PDNG'"):
        await clients.stage.http.post(f"{clients.stage.url}/sandbox/v1/orders/{row['order_id']}/decision")
    by_s, pending = time.monotonic() + SETTLED_S, 1
    while pending and time.monotonic() < by_s:
        await asyncio.sleep(1.0)
        pending = await conn.fetchval(
            """SELECT (SELECT count(*) FROM payment WHERE consent_id = $1 AND status = 'PDNG') + (SELECT count(*)
               FROM parking_charge WHERE mandate_id = $1 AND state IN ('HELD', 'PAYING', 'ACCEPTED'))""",
            clients.mandate,
        )
    return [f"{pending} payments and charges are still pending"] if pending else []


async def recover(ground: Ground) -> list[str]:
    try:
        await asyncio.to_thread(eventually, ground.serving.is_ready, RECOVERY_S, seen=ground.serving.log)
    except pytest.fail.Exception as error:
        return [f"it did not get ready again: {str(error)[-SHOWN:]}"]
    return []


def honest(drill: Drill, journal: Journal, *, began_s: float, ended_s: float) -> list[str]:
    """/readyz says no while nobody can be served, and does not say yes at the end of that."""
    if not drill.unready:
        return []
    said = [(at_s, status) for at_s, status in journal.readiness if began_s < at_s < ended_s]
    if all(status == 200 for _, status in said):
        return ["/readyz never said no"]
    lies = sum(status == 200 for at_s, status in said if at_s > ended_s - LIE_S)
    return [f"/readyz said yes {lies} times while the fault lasted"] if lies else []


@asynccontextmanager
async def ground_for(alone: str = "") -> AsyncIterator[Ground]:
    """A gateway of its own, ready. "pipe": its log goes to a pipe; "tmpfs": its home is a small file system;
    "clock": it follows a clock that can be moved."""
    with tempfile.TemporaryDirectory(prefix="parasol-drill-", dir=memory_folder()) as folder:
        ground = Ground(Path(folder))
        if alone == "tmpfs":
            assert mount(folder, size=TMPFS), "asked before"
        if alone == "pipe":
            ground.log_reader, ground.log = os.pipe()
        if alone == "clock":
            ground.follow_a_clock_of_ours()
        try:
            ground.start()
            await asyncio.to_thread(eventually, ground.serving.is_ready, RECOVERY_S, seen=ground.serving.log)
            ground.look_up_database()
            yield ground
        finally:
            await asyncio.to_thread(ground.leave)
            if ground.log is not None:
                os.close(ground.log)
            if alone == "tmpfs":
                unmount(folder)


def mount(folder: str, *, size: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "parasol-drill", folder]
    return subprocess.run(command, capture_output=True).returncode == 0


def unmount(folder: str) -> None:
    subprocess.run(["umount", folder], check=True)


def may_mount() -> bool:
    """A file system of our own needs the right to mount one."""
    with tempfile.TemporaryDirectory() as folder:
        if not mount(folder, size="1m"):
            return False
        unmount(folder)
    return True


async def run_all(drills: Iterable[Drill]) -> AsyncIterator[Result]:
    """Those that can share a gateway one after the other on it, then the others."""
    shared = [drill for drill in drills if not drill.alone]
    if shared:
        async with ground_for() as ground:
            for drill in shared:
                yield await carry_out(drill, ground)
    for drill in drills:
        if drill.alone == "tmpfs" and not may_mount():
            continue
        if drill.alone:
            async with ground_for(drill.alone) as ground:
                yield await carry_out(drill, ground)

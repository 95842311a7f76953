"""Closing a day, calculating its statement and verifying it at growing numbers of events: seconds, memory, loop lag.

    python -m bench.growth [EVENTS …]          100,000 and 1,000,000 where none is given
The marks on 2 cores at 10,000,000 (which takes some 40 GB of disk, and minutes to prepare): close within 60 s,
calculate within 240 s with our own verification in it, verify alone within 120 s; each within 1 GiB, loop lag p99
within 20 ms.

Steps are the gateway's own jobs over a PostgreSQL of this run, durable as in production: closing reads leaves by
cursor, calculating keeps its rows. Each is a process of its own whose event loop is asked every 5 ms how late it
wakes. Memory is that of the process and all its children, pages that they share counted once (PSS) and, in brackets,
in each of them; PostgreSQL, which serves the whole bank, stands beside.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import leaves
from bench.memory import Peak
from gateway.clock import now_ms
from gateway.database import Database
from gateway.database.embedded import start_embedded
from gateway.database.migrate import migrate
from gateway.jobs.model import Job
from gateway.jsonio import canonical, decode
from gateway.keyring import Keyring, read_kek
from gateway.partners.contract import document, fingerprint, term_ms
from gateway.partners.store import NewVersion, insert_versions
from gateway.settings import Settings
from gateway.settlement.day_closing import DayClosing
from gateway.settlement.model import StatementRow
from gateway.settlement.sealed_files import SealedFiles
from gateway.settlement.statement_files import StatementFiles
from gateway.settlement.statement_work import StatementCalculation, StatementProcesses
from gateway.settlement.store import statements

SIZES = (100_000, 1_000_000)
BATCH = 20_000  # rows of a COPY while the day is made
LOOK_S = 0.005  # between two looks at the loop
WATCH_S = 0.05  # between two looks at memory
BANK, STATEMENT = "Bench", "stm_1"
PAST_RIGHTS = "&role=none"  # who makes the day is whoever made the cluster; the gateway has no right to CHECKPOINT
COLUMNS = (
    "event_id", "type", "partner", "contract", "contract_version", "occurred_at_ms", "recorded_at_ms", "business_day",
    "currency", "amount_minor", "leaf",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Here:
    """What steps share: the home folder, and the database of this run."""

    database: Database
    home: Path
    keyring: Keyring


@asynccontextmanager
async def opened(folder: Path, url: str) -> AsyncIterator[Here]:
    database = await Database.connect(url, pool_size=4)
    keyring = Keyring(read_kek(folder / "home", make=True))
    async with database.transaction() as conn:
        await keyring.ensure(conn)
    try:
        yield Here(database, folder / "home", keyring)
    finally:
        await database.close()


# --- steps ----------------------------------------------------------------------------------------------------------
async def prepare(here: Here, events: int) -> dict[str, Any]:
    """The contract, and a day of its events as if they had been recorded one after the other. Not timed."""
    start_ms, end_ms = term_ms(leaves.CONTRACT)
    new = NewVersion(
        "contract", leaves.CONTRACT_ID, 1, leaves.PARTNER, document(leaves.CONTRACT), fingerprint(leaves.CONTRACT),
        starts_ms=start_ms, ends_ms=end_ms, currency=leaves.CURRENCY,
    )  # fmt: skip
    async with here.database.transaction() as conn:
        await insert_versions(conn, [new], actor="bench", now_ms=leaves.NOON_MS)
    made, done = leaves.leaves(events), 0
    while batch := list(islice(made, BATCH)):
        async with here.database.connection() as conn:
            await conn.copy_records_to_table("event", columns=COLUMNS, records=[_row(leaf) for leaf in batch])
        done += len(batch)
        sys.stderr.write(f"{done}\n")
    async with here.database.connection() as conn:
        await conn.execute("SET statement_timeout = 0")
        await conn.execute("VACUUM (ANALYZE) event", timeout=3600)
        await conn.execute("CHECKPOINT", timeout=3600)
    return {}


def _row(leaf: bytes) -> tuple[Any, ...]:
    told = decode(leaf, dict[str, Any])
    return (*(leaves.DAY if name == "business_day" else told[name] for name in COLUMNS[:-1]), leaf)


async def close(here: Here, events: int) -> dict[str, Any]:
    files = SealedFiles(here.database, here.home)
    await DayClosing(here.database, here.keyring, files, BANK).carry_out(_job("day_closing"), now_ms())
    async with here.database.connection() as conn:
        count = await conn.fetchval("SELECT event_count FROM sealed_day WHERE day = $1", leaves.DAY)
        kept = await conn.fetchval("SELECT rows FROM sealed_file WHERE day = $1", leaves.DAY)
    assert count == kept == events
    return {"file MB": files.place(leaves.DAY).stat().st_size // 10**6}


async def calculate(here: Here, events: int) -> dict[str, Any]:
    row = StatementRow(STATEMENT, leaves.PARTNER, 1, leaves.CURRENCY, leaves.DAY, leaves.DAY, "", "bench", now_ms())
    async with here.database.transaction() as conn:
        await statements.insert_statement(conn, row)
    settings = Settings(database_url=here.database.url, home=str(here.home), issuer="https://bench.example")
    files = SealedFiles(here.database, here.home)
    work = StatementCalculation(here.database, files, StatementProcesses(settings))
    await work.carry_out(_job("statement_calculation"), now_ms())
    async with here.database.connection() as conn:
        found = await statements.find_statement(conn, STATEMENT, lock=False)
    assert found is not None
    assert (found.state, found.event_count) == ("CALCULATED", events)
    keys = {"keys": [dict(key.public_jwk) for key in here.keyring.statement_keys()]}
    (here.home / "keys.json").write_bytes(canonical(keys))
    return {"file MB": (found.size_bytes or 0) // 10**6, "lines": found.line_count}


async def verify(here: Here, events: int) -> dict[str, Any]:
    """As a partner runs it, alone."""
    path = StatementFiles(here.home).path(STATEMENT)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.settlement.verify", str(path), "--jwks", str(here.home / "keys.json"),
        "--partner", leaves.PARTNER, "--lang", "en", stdout=subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert f"{events:,}" in said.decode()
    return {}


def _job(kind: str) -> Job:
    at_ms = now_ms()
    return Job("job_1", kind, STATEMENT, "bench", leaves.DAY, STATEMENT, leaves.PARTNER, "RUNNING", 1, None, at_ms,
               "bench", at_ms, None)  # fmt: skip


STEPS: dict[str, Callable[[Here, int], Awaitable[dict[str, Any]]]] = {
    "prepare": prepare, "close": close, "calculate": calculate, "verify": verify,
}  # fmt: skip


# --- one step, in its process ---------------------------------------------------------------------------------------
async def carried_out(name: str, folder: Path, *, url: str, events: int) -> dict[str, Any]:
    async with opened(folder, url) as here:
        late: list[float] = []
        watching = asyncio.create_task(_watch_loop(late))
        started = time.perf_counter()
        told = await STEPS[name](here, events)
        seconds = time.perf_counter() - started
        watching.cancel()
    late.sort()
    p99_ms = late[len(late) * 99 // 100] * 1000 if late else 0.0
    return {"seconds": seconds, "late_p99_ms": p99_ms, "late_most_ms": late[-1] * 1000 if late else 0.0, "told": told}


async def _watch_loop(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + LOOK_S
        await asyncio.sleep(LOOK_S)
        late.append(max(0.0, time.perf_counter() - due))


# --- all of them ----------------------------------------------------------------------------------------------------
def measure(events: int, folder: Path, *, console: Console) -> None:
    cluster = start_embedded(folder)
    try:
        migrate(cluster.get_uri())
        for name in STEPS:
            rights = PAST_RIGHTS if name == "prepare" else ""
            run_step(name, folder, url=f"{cluster.get_uri()}{rights}", events=events, console=console)
    finally:
        cluster.cleanup()


def run_step(name: str, folder: Path, *, url: str, events: int, console: Console) -> None:
    """In a process of its own, while memory is watched and a bar shown."""
    command = [sys.executable, "-m", "bench.growth", "--step", name, str(folder), url, str(events)]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, (folder / "progress").open("wb") as said:
        bar = progress.add_task(f"{events:,} events: {name}", total=events if name == "prepare" else None)
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        watched, peak = psutil.Process(running.pid), Peak()
        while running.poll() is None:
            peak.look(watched)
            if name == "prepare":
                progress.update(bar, completed=_last_number(folder / "progress"))
            time.sleep(WATCH_S)
    assert running.stdout is not None
    answer = running.stdout.read()
    if running.returncode != 0:
        raise SystemExit((folder / "progress").read_text()[-4000:])
    if name != "prepare":
        found = json.loads(answer)
        console.print(
            f"{events:>12,}  {name:<10} {found['seconds']:8.1f} s   {peak}   loop late p99 "
            f"{found['late_p99_ms']:.1f} ms, at most {found['late_most_ms']:.1f} ms   {found['told'] or ''}",
            highlight=False,
        )


def _last_number(path: Path) -> int:
    lines = path.read_bytes().split()
    return int(lines[-1]) if lines and lines[-1].isdigit() else 0


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--step"]:
        name, step_folder, url, count = arguments[1:]
        print(json.dumps(asyncio.run(carried_out(name, Path(step_folder), url=url, events=int(count)))))
        return
    console = Console(soft_wrap=True)
    for events in [int(each.replace("_", "")) for each in arguments] or SIZES:
        with tempfile.TemporaryDirectory(prefix="parasol-growth-") as folder:
            Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own under root
            measure(events, Path(folder), console=console)


if __name__ == "__main__":
    main(sys.argv[1:])

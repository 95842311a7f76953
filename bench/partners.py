"""What a partner costs its neighbours: applying many, and how long one change blocks a worker and takes to bite.

python -m bench.partners [PARTNERS …]      500 and 5,000 where none is given
"""

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from bench.scratch import scratch_database
from gateway.clock import now_ms
from gateway.database import Database
from gateway.database.changes import ChangeFeed
from gateway.partners.apply import apply
from gateway.partners.lifecycle import reinstate, suspend
from gateway.partners.partner import PartnerState
from gateway.partners.snapshot import SnapshotKeeper
from gateway.routes import POLICY_OPERATIONS

SIZES = (500, 5_000)
CHANGES = 10  # suspensions and reinstatements a size
WATCH_S = 0.001  # between two looks at the processor time that the loop's thread has used
MODEL, AGREED = "shopco", Path("partners")


def write_folder(root: Path, partners: int) -> None:
    """The shop of the demo under as many names; its app has no key in the file, as every demo app."""
    (root / "policies").mkdir()
    for path in Path("policies").glob("*.toml"):
        (root / "policies" / path.name).write_bytes(path.read_bytes())
    partner, contract = ((AGREED / MODEL / name).read_text() for name in ("partner.toml", "contract.toml"))
    for number in range(partners):
        folder = root / "partners" / f"p{number}"
        folder.mkdir(parents=True)
        (folder / "partner.toml").write_text(partner.replace(MODEL, f"p{number}"))
        (folder / "contract.toml").write_text(contract.replace(MODEL, f"p{number}"))


class Blocked:
    """The longest that the loop worked between two turns, in milliseconds of processor time: neighbours don't count."""

    def __init__(self) -> None:
        self.longest_ms = 0.0

    async def watch(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(WATCH_S)
            self.longest_ms = max(self.longest_ms, (time.thread_time() - before) * 1000)


@asynccontextmanager
async def watched() -> AsyncIterator[Blocked]:
    blocked = Blocked()
    task = asyncio.create_task(blocked.watch())
    await asyncio.sleep(0)
    yield blocked
    await asyncio.sleep(0)
    task.cancel()


async def measure(partners: int) -> None:
    with tempfile.TemporaryDirectory(prefix="parasol-partners-") as folder:
        root = Path(folder)
        write_folder(root, partners)
        async with scratch_database(pool_size=4) as database:
            await _apply(database, root, f"{partners:>7,}  apply, first        ")
            await _apply(database, root, f"{partners:>7,}  apply, nothing new  ")
            await _changes(database, partners)


async def _apply(database: Database, root: Path, told: str) -> None:
    started, cpu = time.perf_counter(), time.process_time()
    done = await apply(database, root, POLICY_OPERATIONS, actor="bench", reason="a measurement", now_ms=now_ms())
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    print(f"{told}{seconds:8.2f} s, {used:.2f} s of it ours, {len(done.steps):,} documents written", flush=True)


async def _changes(database: Database, partners: int) -> None:
    """One worker's feed and picture, and a suspension of its last partner."""
    feed, keeper = ChangeFeed(database), SnapshotKeeper(database)
    await feed.start()
    async with watched() as blocked:
        started = time.perf_counter()
        await keeper.load()
    gc.collect()
    gc.freeze()  # as a worker does once it has started
    loaded_ms = (time.perf_counter() - started) * 1000
    print(
        f"{partners:>7,}  cold load           {loaded_ms:8.1f} ms, loop blocked {blocked.longest_ms:.1f} ms", flush=True
    )
    swapped = asyncio.Event()

    async def ring(_: object) -> None:
        swapped.set()

    feed.subscribe(keeper.refresh)
    feed.subscribe(ring)
    bites, blocks = [], []
    for turn in range(CHANGES):
        change, state = ((suspend, PartnerState.SUSPENDED), (reinstate, PartnerState.ACTIVE))[turn % 2]
        swapped.clear()
        async with watched() as blocked:
            async with database.transaction() as conn:
                await change(conn, f"p{partners - 1}", reason="bench", actor="bench", now_ms=now_ms())
            committed = time.perf_counter()
            await swapped.wait()
            bites.append((time.perf_counter() - committed) * 1000)
        assert keeper.current.partners[f"p{partners - 1}"].state is state
        blocks.append(blocked.longest_ms)
    await feed.stop()
    print(f"{partners:>7,}  one suspension      {_told(bites)} ms to bite, loop blocked {_told(blocks)} ms", flush=True)


def _told(values: Iterable[float]) -> str:
    known = sorted(values)
    return f"{median(known):.1f} (at most {known[-1]:.1f})"


def main(arguments: list[str]) -> None:
    for partners in [int(each) for each in arguments] or SIZES:
        asyncio.run(measure(partners))


if __name__ == "__main__":
    main(sys.argv[1:])

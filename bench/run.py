"""`make bench`: every pair beside its peer in one run, as ratios; the rates in the detail belong to this machine."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from bench import settlement
from bench.compare import Comparison, middle
from bench.gateway import Gateway, gateway_serving
from bench.pinned import cores
from bench.reads import cached_read, dpop_read
from bench.redemptions import hold_and_confirm
from gateway.database.embedded import start_embedded

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Row:
    """One pair; `mark` in words, `reached` whether this run was beyond it."""

    pair: str
    ratio: str
    mark: str
    reached: bool
    detail: str


def main() -> int:
    """0 when every mark was reached."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="parasol-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own when the bench runs as root
        rows = list(_rows(Path(folder), console))
    table = Table("Pair", "Ratio", "Mark", "", "Detail", title="Gateway beside its peers, one run")
    for row in rows:
        table.add_row(row.pair, row.ratio, row.mark, "✓" if row.reached else "✗", row.detail)
    console.print(table)
    return 0 if all(row.reached for row in rows) else 1


def _rows(folder: Path, console: Console) -> Iterator[Row]:
    server, _ = cores()
    with console.status("cached bearer read · DPoP read"), _gateway(folder, workers=1, on={server}) as (gateway, _):
        cached = cached_read(gateway, core=server, folder=folder)
        proven = dpop_read(gateway, core=server, folder=folder)
    yield Row("balance read, cached bearer / Envoy cached", _ratio(cached), "≥ 0.4", cached.ratio >= 0.4, _work(cached))
    own = middle(proven.ours).work_us
    yield Row(
        "balance read, DPoP / Envoy, token verified", _ratio(proven), "own work ≤ 300 µs", own <= 300, _work(proven)
    )
    everywhere = os.sched_getaffinity(0)
    with console.status("hold and confirm"), _gateway(folder, workers=2, on=everywhere) as (gateway, url):
        pairs, spent = hold_and_confirm(gateway, database_url=url, workers=2, cores=everywhere, folder=folder)
    rate = middle(pairs.ours).rate
    detail = f"{rate:,.0f} pairs/s; used {spent.used} of {spent.cap}, overspent: {'YES' if spent.overspent else 'no'}"
    reached = rate >= 1000 and not spent.overspent
    yield Row(
        "durable hold+confirm / row per request", _ratio(pairs), "≥ 1,000 pairs/s, none overspent", reached, detail
    )
    with console.status("settlement of 1,000,000 events"):
        settled = settlement.measure(folder)
    low, high = settled.spread
    yield Row("settlement / bare DuckDB (time)", f"{settled.ratio:.2f} ({low:.2f}–{high:.2f})", "≤ 3",
              settled.ratio <= 3, f"{settled.events:,} events, {settled.lines:,} lines, equal totals")  # fmt: skip


@contextmanager
def _gateway(folder: Path, *, workers: int, on: set[int]) -> Iterator[tuple[Gateway, str]]:
    """A fresh gateway over a fresh cluster, and the address of a database beside its own for the peer."""
    home = Path(tempfile.mkdtemp(dir=folder))
    home.chmod(0o755)
    with ExitStack() as stack:
        cluster = start_embedded(home)
        stack.callback(cluster.cleanup)
        url = cluster.get_uri()
        peer = url.replace("/postgres?", "/peer?", 1)
        asyncio.run(_create(url, "peer"))
        yield stack.enter_context(gateway_serving(database_url=url, home=home, data=ROOT, workers=workers, on=on)), peer


async def _create(url: str, name: str) -> None:
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(f"CREATE DATABASE {name}")
    finally:
        await conn.close()


def _ratio(found: Comparison) -> str:
    low, high = found.spread
    bound = " (generator bound)" if found.generator_bound else ""
    return f"{found.ratio:.2f} ({low:.2f}–{high:.2f}){bound}"


def _work(found: Comparison) -> str:
    return f"own work {middle(found.ours).work_us:.0f} µs a request, the peer's {middle(found.peer).work_us:.0f} µs"


if __name__ == "__main__":
    raise SystemExit(main())

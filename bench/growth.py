"""Closing a day and calculating its statement at growing numbers of events: seconds and peak memory of each.

    python -m bench.growth [EVENTS …]          100,000 and 1,000,000 where none is given; 10000000 takes 22 GB of disk.
The marks at that size on 2 cores: close within 60 s, calculate within 120 s, each within 1 GiB.

Each step is a process of its own. Leaves come from a file here, so the database's reading is not in the figures.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from bench import leaves
from gateway.settlement.calculation import Opening, SettledDay, calculate
from gateway.settlement.facts import FactsWriter
from gateway.settlement.model import PartnerTree, SealedDay
from gateway.settlement.seal import FIRST, DaySealer

SIZES = (100_000, 1_000_000)
BATCH = 2000  # leaves a step, as a cursor gives them
KEY = {"kty": "EC", "kid": "bench", "purpose": "statement"}


def prepare(folder: Path, events: int) -> dict[str, Any]:
    with (folder / "leaves").open("wb") as file:
        for leaf in leaves.leaves(events):
            file.write(leaf)
            file.write(b"\n")
    return {}


def close(folder: Path, events: int) -> dict[str, Any]:
    """What a day's closing does with leaves: the Parquet file, the tree, the head."""
    sealer = DaySealer()
    with (folder / "leaves").open("rb") as file, FactsWriter(folder / "day.parquet") as writer:
        while batch := [(leaves.PARTNER, line[:-1]) for line in islice(file, BATCH)]:
            sealer.add(batch)
            writer.add(batch)
        rows = writer.finish().rows
    day = sealer.seal(leaves.DAY, bank="Bench", previous_head_hash=FIRST, audit_head=None, sign=lambda _: "a.b.c")
    assert rows == events == day.event_count
    (tree,) = day.trees
    (folder / "day.json").write_text(
        json.dumps({"head": dict(day.head), "root": tree.root_hash.hex(), "size": tree.size})
    )
    return {"bytes": (folder / "day.parquet").stat().st_size}


def statement(folder: Path, events: int) -> dict[str, Any]:
    """Without the verifier, which is measured by itself."""
    about = json.loads((folder / "day.json").read_text())
    root = bytes.fromhex(about["root"])
    trees = (PartnerTree(leaves.PARTNER, about["size"], root),)
    day = SealedDay(leaves.DAY, about["head"], "a.b.c", bytes(32), root, events, trees)
    header = {
        "bank": "Bench", "currency": leaves.CURRENCY, "from_day": leaves.DAY.isoformat(), "issuer": "https://bench",
        "number": 1, "partner": leaves.PARTNER, "previous": None, "statement_id": "stm_1",
        "to_day": leaves.DAY.isoformat(),
    }  # fmt: skip
    written = calculate(
        header, contracts=[leaves.CONTRACT], days=[SettledDay(day, folder / "day.parquet")], opening=Opening(),
        accrued=(), keys=[KEY], sign=lambda _: "a..c", folder=folder / "statement",
    )  # fmt: skip
    assert written.event_count == events
    return {"bytes": written.size_bytes, "lines": written.line_count, "net_minor": written.totals.net_minor}


STEPS: dict[str, Callable[[Path, int], dict[str, Any]]] = {"prepare": prepare, "close": close, "calculate": statement}


def main(arguments: list[str]) -> None:
    if arguments and arguments[0] in STEPS:
        _step(arguments[0], Path(arguments[1]), int(arguments[2]))
        return
    for events in [int(each) for each in arguments] or SIZES:
        with tempfile.TemporaryDirectory(prefix="parasol-growth-") as folder:
            for step in STEPS:
                found = subprocess.run(
                    [sys.executable, "-m", "bench.growth", step, folder, str(events)],
                    check=True,
                    stdout=subprocess.PIPE,
                )
                if step != "prepare":
                    print(f"{events:>12,}  {step:<10} {found.stdout.decode().strip()}", flush=True)


def _step(name: str, folder: Path, events: int) -> None:
    started, cpu = time.perf_counter(), time.process_time()
    found = STEPS[name](folder, events)
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{seconds:8.2f} s  {used:8.2f} s CPU  peak {peak:>5} MiB  {found}")


if __name__ == "__main__":
    main(sys.argv[1:])

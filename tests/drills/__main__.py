"""`python -m tests.drills [NAME …]`: run the drills, print each line; with none named, write docs/reliability.md.

Exit status 1 where a line is red or void.
"""

import asyncio
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.drills.faults import DRILLS, Drill
from tests.drills.runner import Result, run_all

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = """# Reliability drills

`make drill` writes this page. Each line is a real `parasol serve` with two workers in a sandbox while clients hold,
confirm and release discounts, pay under a mandate, park cars and send referral batches. They write every request down
with its key, and send what was not answered again with the same key until it is. Then an auditor lays the journal
beside the books: every yes is in rows, events and ledger exactly once, what had no answer at most once, the same key
has the same answer, debits are credits, nobody was told 500 or plain text, and nothing that was sent on an open
connection was reset, unless its own process was killed. A run whose fault met fewer than five requests is void, not
green.

"Without service" is the longest time between two answers of the gateway's own making, whoever asked; "ready again"
counts from the end of the fault.

"""
NOT_HERE = """
"Clock jumped" moves `time.time` of every Python process of the gateway and of its sandbox bank; PostgreSQL keeps the
true time, as CLOCK_REALTIME has no namespace. Attempts are signed by the true clock and by the gateway's in turn. A
proof, token or moment that the other clock refuses is a refusal with its code, and is sent again.

Not run here: a power cut (no machine to cut; PostgreSQL runs with `fsync` on), a network between gateway and database
that loses packets.
"""


async def main(names: Sequence[str]) -> int:
    drills = [drill for drill in DRILLS if not names or drill.name in names]
    if not drills:
        print(f"The drills are: {', '.join(drill.name for drill in DRILLS)}")
        return 2
    results: list[Result] = []
    async for result in run_all(drills):
        print(line_of(result), flush=True)
        for sentence in result.found:
            print(f"    {sentence}", flush=True)
        results.append(result)
    if not names:
        PAGE.write_text(page_of(results, DRILLS))
    return int(any(result.verdict != "green" for result in results))


def line_of(result: Result) -> str:
    cells = (
        result.name, result.evidence or result.void, result.requests, result.during, result.unanswered, result.resets,
        f"{result.without_service_s:.1f} s", f"{result.recovered_s:.1f} s", result.verdict,
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def page_of(results: Sequence[Result], drills: Sequence[Drill]) -> str:
    heads = ("fault", "what was done", "requests", "met it", "unanswered", "reset", "without service", "ready again",
             "books")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *map(line_of, results), ""]
    lines += [f"- {result.name}: {sentence}" for result in results for sentence in result.found]
    if missing := {drill.name for drill in drills} - {result.name for result in results}:
        lines.append(f"Not run, as this machine lets nobody mount a file system: {', '.join(sorted(missing))}.")
    lines.append(
        f"Run on {time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, load average {os.getloadavg()[1]:.1f} at the end (others use the machine)."
    )
    return HEAD + "\n".join(lines) + "\n" + NOT_HERE


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))

"""On the PYTHONPATH of a drill's gateway: every Python process of it reads the true time plus an offset that jumps.

The file that DRILL_CLOCK names holds the offset, eight bytes of nanoseconds; whoever maps it sees a change at once.
Monotonic clocks, `datetime.now` (log lines only) and PostgreSQL keep the true time.
"""

import mmap
import os
import time
from pathlib import Path


def follow(path: Path) -> None:
    with path.open("rb") as file:
        offset_ns = memoryview(mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)).cast("q")
    true, true_ns = time.time, time.time_ns
    time.time = lambda: true() + offset_ns[0] / 1e9
    time.time_ns = lambda: true_ns() + offset_ns[0]


follow(Path(os.environ["DRILL_CLOCK"]))

"""What a process and its children hold in memory, looked at again and again while it runs."""

from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 2**20


@dataclass(slots=True)
class Peak:
    """The most that was seen at one moment, in bytes: `resident` counts a shared page in every process that has it,
    `shared_once` (PSS) gives each process its part of it, so that the sum is what the machine must have."""

    resident: int = 0
    shared_once: int = 0

    def look(self, process: psutil.Process) -> None:
        resident = shared_once = 0
        try:
            for each in (process, *process.children(recursive=True)):
                one, other = _held(each.pid)
                resident, shared_once = resident + one, shared_once + other
        except psutil.Error:
            return  # it has just ended, or a child of it
        self.resident, self.shared_once = max(self.resident, resident), max(self.shared_once, shared_once)

    def __str__(self) -> str:
        return f"peak {self.shared_once / MIB:,.0f} MiB ({self.resident / MIB:,.0f} with shared pages counted twice)"


def _held(pid: int) -> tuple[int, int]:
    """Resident and proportional bytes of one process: proc(5), smaps_rollup; 0 when it has ended."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    told = {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (row.partition(":") for row in rows) if rest[-2:] == "kB"
    }
    return told.get("Rss", 0), told.get("Pss", 0)

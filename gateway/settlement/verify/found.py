"""What was found out about one statement, and what is wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .canonical import Refused
from .joins import Joins
from .manifest import Manifest
from .proof import Key

FAULT_LIMIT = 25  # sentences a file; whoever reads more has understood


class EnoughFaults(Exception):
    """Nothing more is read: the statement is refused, and told why often enough."""


@dataclass(slots=True)
class Found:
    """What a file says, as far as it could be read, and what is wrong with it. `drift`: see FileReport; `joins`: of a
    file whose events were all read."""

    name: str
    sha256: str = ""
    manifest: Manifest | None = None
    joins: Joins | None = None
    event_count: int = 0
    line_count: int = 0
    drift: dict[str, tuple[int, int]] = field(default_factory=dict)
    signers: list[Key] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def header(self) -> dict[str, Any]:
        return self.manifest.header if self.manifest is not None else {}

    @contextmanager
    def telling(self, of: str) -> Iterator[None]:
        """What is refused inside is told, and the reading goes on."""
        try:
            yield
        except Refused as refusal:
            self.tell(f"{of}: {refusal}")

    def tell(self, fault: str) -> None:
        """Raises EnoughFaults."""
        if len(self.faults) == FAULT_LIMIT:
            self.faults.append("and perhaps more: only the first faults are told, and the rest was not read")
        if len(self.faults) > FAULT_LIMIT:
            raise EnoughFaults
        self.faults.append(fault)

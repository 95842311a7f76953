"""What a client wrote down while a drill ran: every request with its key, every answer to it, every absence of one."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

RESETS = frozenset(("ReadError", "WriteError", "RemoteProtocolError"))  # of a request that was sent
REFUSALS = frozenset(("ConnectError", "ConnectTimeout", "PoolTimeout"))  # nothing was sent
LATER = frozenset((429, 503))  # send the same again, with the same key
UNTIMELY = frozenset((  # what is refused for its moment where clocks differ; true again when they agree again
    "dpop_proof_invalid", "invalid_dpop_proof", "invalid_client", "token_not_accepted", "invalid_token", "U006",
    "moment_in_future", "too_late", "U016", "D010", "D011",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heard:
    """One attempt: when it began and ended (monotonic seconds), and an HTTP status or the name of what came instead."""

    began_s: float
    ended_s: float
    what: int | str
    code: str = ""  # of a refusal
    is_text: bool = False  # a body that is no JSON

    @property
    def is_served(self) -> bool:
        return isinstance(self.what, int) and self.what < 500 and self.what != 429

    @property
    def is_untimely(self) -> bool:
        return self.code in UNTIMELY


@dataclass(slots=True)
class Entry:
    """One wish of the client, sent until it was answered for good."""

    kind: str
    subject: str  # what it is about, by the client's own name: a customer, a stay, a batch
    method: str
    path: str
    how: dict[str, Any]  # body, key, token, signature: the same each time
    heard: list[Heard] = field(default_factory=list)
    data: dict[str, Any] | None = None  # of the yes

    @property
    def began_s(self) -> float:
        return self.heard[0].began_s if self.heard else time.monotonic()

    @property
    def granted_s(self) -> float:
        """When the first yes came; -inf: none did. The auditor asks again later."""
        yes = (heard.ended_s for heard in self.heard if isinstance(heard.what, int) and heard.what < 300)
        return next(yes, float("-inf"))

    @property
    def was_hit(self) -> bool:
        return any(not heard.is_served for heard in self.heard)


@dataclass(slots=True)
class Journal:
    """All of a drill."""

    entries: list[Entry] = field(default_factory=list)
    readiness: list[tuple[float, int]] = field(default_factory=list)  # when, and /readyz's status; 0: no answer

    def of(self, kind: str) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.kind == kind)

    def heard(self) -> Iterator[Heard]:
        return (heard for entry in self.entries for heard in entry.heard)

    def resets(self) -> int:
        return sum(heard.what in RESETS for heard in self.heard())

    def untimely(self) -> int:
        return sum(heard.is_untimely for heard in self.heard())

    def within(self, began_s: float, ended_s: float) -> list[Heard]:
        """Whatever overlaps that time."""
        return [heard for heard in self.heard() if heard.began_s < ended_s and heard.ended_s > began_s]

    def longest_without_service_s(self, began_s: float, ended_s: float) -> float:
        """Between two answers of the gateway's own making, whoever asked."""
        served = [heard.ended_s for heard in self.heard() if heard.is_served and began_s < heard.ended_s < ended_s]
        moments = [began_s, *sorted(served), ended_s]
        return max(after - before for before, after in pairwise(moments))

"""A job, the kinds of work there are, and how a failure is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import asyncpg

from gateway.database import Connection
from gateway.database.absence import DatabaseAway

STATES = ("WAITING", "RUNNING", "DONE", "FAILED", "WITHDRAWN")
PAUSES_S = (1, 5, 30, 120, 600, 1800)  # between attempts; after the last one an operator decides
ATTEMPTS = len(PAUSES_S) + 1
FAILURE_LIMIT = 500  # characters of a failure that an operator reads


class JobFailed(Exception):
    """Work that cannot be done, in words for an operator. `final`: trying again would find the same."""

    def __init__(self, words: str, *, final: bool = False) -> None:
        super().__init__(words)
        self.final = final


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `subject` is wished once at a time; jobs of one `lane` run one after another."""

    kind: str
    subject: str
    lane: str
    day: date | None = None
    statement_id: str | None = None
    partner_id: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A wish and how far it has come; `failure` is that of the last attempt."""

    job_id: str
    kind: str
    subject: str
    lane: str
    day: date | None
    statement_id: str | None
    partner_id: str | None
    state: str
    attempts: int
    failure: str | None
    next_try_at_ms: int
    requested_by: str
    requested_at_ms: int
    finished_at_ms: int | None


class Work(Protocol):
    """What a capability does for its kind of job. All of it must be safe to repeat: a process may die at any point."""

    async def carry_out(self, job: Job, now_ms: int) -> None:
        """Raises JobFailed with words, or anything else."""

    async def give_up(self, conn: Connection, job: Job, *, failure: str) -> None:
        """In the transaction that ends the job as FAILED or WITHDRAWN."""

    async def take_up(self, conn: Connection, job: Job) -> None:
        """In the transaction of an operator's retry. Raises StateConflict where that comes too late."""


@dataclass(frozen=True, slots=True)
class JobKind:
    """`slots` jobs of this kind run at once; one that takes longer than `limit_s` has failed."""

    name: str
    title: str
    work: Work
    slots: int
    limit_s: float
    withdrawable: bool = True


def pause_after(attempts: int) -> int | None:
    """Milliseconds until the next try; None: there is none by itself."""
    return PAUSES_S[attempts - 1] * 1000 if attempts <= len(PAUSES_S) else None


def in_words(error: Exception, *, limit_s: float) -> str:
    """What an operator reads. An unknown exception's own text may quote customers' data: its class must do."""
    match error:
        case JobFailed():
            words = str(error)
        case DatabaseAway():
            words = "the database was not there"
        case TimeoutError():
            words = f"it took longer than {limit_s:.0f} s"
        case asyncpg.PostgresError():
            words = f"the database said {type(error).__name__} ({error.sqlstate})"
        case OSError() if error.strerror:
            words = f"{type(error).__name__}: {error.strerror}"
        case _:
            words = f"an unexpected {type(error).__name__}; the log has the places it passed"
    return "".join(char if char.isprintable() else "?" for char in words[:FAILURE_LIMIT])  # the database takes no NUL


def by_name(kinds: Sequence[JobKind]) -> dict[str, JobKind]:
    return {kind.name: kind for kind in kinds}

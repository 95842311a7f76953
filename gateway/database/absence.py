"""What it means to a caller that the database is not there: nobody knows whether it was done, so send it again.

A connection that cannot be had or was lost, a server that shuts down, has no room or no connection left, rows that two
wanted at once: none of it is the caller's fault, none is a bug, and a retry with the same key is safe. Whatever is not
on this list is a bug.
"""

import asyncpg

from gateway.refusal import Refusal


class DatabaseAway(ConnectionError):
    """No connection could be had in time, or the one in use was lost. Not a Refusal: no rule has said no."""


class RetryWithSameKey(Refusal):
    """Not done in time, or not known to be done. The same request with the same key is done once, whatever was."""

    status, code, ob_code, outcome = 503, "retry_with_same_key", "D034", "unavailable"
    oauth_error, oauth_status, retry_after_s = "temporarily_unavailable", 503, 1  # a server restarts within seconds
    title = "We cannot say whether this was done: send the same request again, with the same key"


class DatabaseAbsent(RetryWithSameKey):
    """The gateway's database is not there at the moment. Whether the request was carried out is not known."""


# PostgreSQL's error codes (appendix A of its manual) that say something about the server and nothing about the request
_CLASSES = frozenset((
    "08",  # the connection failed
    "53",  # no disk, memory or connection left
    "58",  # an error of the operating system: a disk that cannot be read or written
))  # fmt: skip
_STATES = frozenset((
    "25006",  # read only: a standby that took over, or a primary that gave way
    "25P03",  # it waited too long for us
    "40001", "40P01",  # two transactions wanted the same rows, and this one gave way
    "55P03",  # somebody else has kept the row too long
    "57014",  # the statement took too long
    "57P01", "57P02", "57P03", "57P04", "57P05",  # shutting down, crashed, starting, database dropped, session ended
))  # fmt: skip
# Two transactions wanted the same rows and this one was rolled back, for certain: it may be run again at once.
GAVE_WAY = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
SHARED_FATE = frozenset(("08", "53", "57", "58"))  # of a whole batch: to try its rows one by one would fail as often


def absence(error: BaseException) -> DatabaseAbsent | None:
    """The refusal that this failure means; None: it is a bug."""
    if isinstance(error, DatabaseAway) or _state(error)[:2] in _CLASSES or _state(error) in _STATES:
        detail = "The database does not answer at the moment; send the same request again, with its key if it has one"
        return DatabaseAbsent(detail)
    return None


def is_shared_fate(error: BaseException) -> bool:
    """Whether the failure was the server's and not a row's."""
    return isinstance(error, DatabaseAway) or _state(error)[:2] in SHARED_FATE


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, asyncpg.DiskFullError)


def _state(error: BaseException) -> str:
    return str(error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""

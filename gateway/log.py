"""Structured logs: one JSON line an event on standard error, with the interaction id and no customer data.

Only keys of an allow-list leave the process; any other is dropped and counted. Exceptions are logged as the places they
passed and their class, never their text: a database's or a parser's message quotes the data it stumbled over.
"""

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import msgspec
import structlog

from gateway import metrics

# Each names a thing of ours or a technical fact. No customer, account, plate, phone, token or text from a request.
KEYS = frozenset((
    "timestamp", "level", "event", "error", "trace", "library", "place", "text", "interaction_id", "operation",
    "outcome", "code", "reason", "partner_id", "client_id", "consent_id", "mandate_id", "payment_id", "redemption_id",
    "claim_id", "batch_id", "session_id", "charge_id", "statement_id", "grant_id", "contract_id", "contract_version",
    "campaign", "goal", "business_day", "kid", "kind", "key", "key_id", "generation", "change_seq", "version", "status",
    "chore", "job_id", "process", "worker", "pid", "port", "host", "file", "count", "seconds", "attempt", "waiting",
))  # fmt: skip
TRUSTED_LIBRARIES = ("_granian",)  # the server speaks of its workers, never of a request: its text may be read
TEXT_LIMIT = 300  # characters of a value: ids and reasons are shorter, bodies are not
FRAMES_LIMIT = 12  # places of a trace, the innermost
_EVENT = re.compile(r"[a-z][a-z0-9_]{1,63}")
_encode = msgspec.json.Encoder(enc_hook=str).encode
EventDict = MutableMapping[str, Any]


def configure(level: str) -> None:
    """For this process: structlog from `level` (debug, info, warning…) up, the libraries from warning, in one form."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            place_exception,
            keep_allowed,
            to_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),  # as it is now, should it be redirected later
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[LibraryHandler()], force=True)


def place_exception(_: Any, __: str, event: EventDict) -> EventDict:
    """`exc_info` becomes `error`, the class, and `trace`, the places: never the exception's own text."""
    given = event.pop("exc_info", None)
    found = sys.exc_info() if given is True else given
    if isinstance(found, BaseException):
        found = (type(found), found, found.__traceback__)
    if isinstance(found, tuple) and found[0] is not None:
        event.setdefault("error", found[0].__name__)
        event["trace"] = " < ".join(_places(found[2]))
    return event


def keep_allowed(_: Any, __: str, event: EventDict) -> EventDict:
    """What is not on the list is dropped and counted; values are short and plain."""
    if not _EVENT.fullmatch(str(event.get("event"))):
        event["event"] = "unnamed_event"  # a sentence with data in it: the developer's mistake, not the log's content
        metrics.count("parasol_log_keys_dropped_total")
    allowed = {key: _plain(value) for key, value in event.items() if key in KEYS}
    if len(allowed) < len(event):
        metrics.count("parasol_log_keys_dropped_total", len(event) - len(allowed))
    return allowed


def to_line(_: Any, __: str, event: EventDict) -> str:
    return _encode(event).decode()


class LibraryHandler(logging.Handler):
    """Lines of the libraries: which one, how serious, from where; their text only where we can vouch for it."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = {"library": record.name, "place": f"{record.module}:{record.lineno}"}
        if record.name.startswith(TRUSTED_LIBRARIES):
            facts["text"] = record.getMessage()
        structlog.get_logger().log(record.levelno, "library_message", **facts, exc_info=record.exc_info)


def _places(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-FRAMES_LIMIT:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames)]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…"

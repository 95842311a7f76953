"""Structured logs: one JSON line an event on standard error, with the interaction id and no customer data.

Only keys of an allow-list leave the process; any other is dropped and counted. Exceptions are logged as the places they
passed and their class, never their text: a database's or a parser's message quotes the data it stumbled over.

Logging never raises and never waits: a line that cannot be written (its reader is gone or stands still, the disk is
full) or cannot be made is dropped and counted. No request and no loop ends for a line.
"""

import logging
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import Any, ClassVar

import msgspec
import structlog

# Each names a thing of ours or a technical fact. No customer, account, plate, phone, token or text from a request.
KEYS = frozenset((
    "timestamp", "level", "event", "error", "trace", "library", "place", "text", "interaction_id", "operation",
    "outcome", "code", "reason", "partner_id", "client_id", "consent_id", "mandate_id", "payment_id", "redemption_id",
    "claim_id", "batch_id", "session_id", "charge_id", "statement_id", "grant_id", "contract_id", "contract_version",
    "campaign", "goal", "business_day", "kid", "kind", "key", "key_id", "generation", "change_seq", "version", "status",
    "chore", "job_id", "head", "process", "worker", "pid", "port", "host", "file", "count", "seconds", "attempt",
    "waiting",
))  # fmt: skip
TRUSTED_LIBRARIES = ("_granian",)  # the server speaks of its workers, never of a request: its text may be read
TEXT_LIMIT = 300  # characters of a value: ids and reasons are shorter, bodies are not
FRAMES_LIMIT = 12  # places of a trace, the innermost
LINE_LIMIT = 4096  # bytes: what a pipe that says it has room takes at once (PIPE_BUF), so that no write waits midway
SHORTENED = 40  # characters of a value in a line that is above the limit
_KERNEL = ("timestamp", "level", "event", "error", "interaction_id")  # what is left of a line that is too long even so
_EVENT = re.compile(r"[a-z][a-z0-9_]{1,63}")
_encode = msgspec.json.Encoder(enc_hook=str).encode
EventDict = MutableMapping[str, Any]
LINES_DROPPED, KEYS_DROPPED = "parasol_log_lines_dropped_total", "parasol_log_keys_dropped_total"
_count: list[Callable[[str, int], None]] = []  # how this process counts; nothing yet where it has no metrics


def count_with(count: Callable[[str, int], None]) -> None:
    """The metrics offer themselves: they log, so logging cannot know them."""
    _count[:] = [count]


def _counted(name: str, amount: int = 1) -> None:
    for count in _count:
        count(name, amount)


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
        wrapper_class=never_raising(structlog.make_filtering_bound_logger(number)),
        logger_factory=lambda *_: LineWriter(),
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
        _counted(KEYS_DROPPED)
    allowed = {key: _plain(value) for key, value in event.items() if key in KEYS}
    if len(allowed) < len(event):
        _counted(KEYS_DROPPED, len(event) - len(allowed))
    return allowed


def to_line(_: Any, __: str, event: EventDict) -> bytes:
    """One line of JSON; a text that no file takes (half a character, of a path) is written as what it stands for."""
    line = _encoded(event)
    if len(line) > LINE_LIMIT:
        line = _encoded({key: _plain(value, SHORTENED) for key, value in event.items()})
    if len(line) > LINE_LIMIT:
        line = _encoded({key: _plain(event[key], SHORTENED) for key in _KERNEL if key in event})
    return line


def _encoded(event: EventDict) -> bytes:
    try:
        return bytes(_encode(event)) + b"\n"
    except UnicodeEncodeError:
        whole = {key: _whole(value) for key, value in event.items()}
        return bytes(_encode(whole)) + b"\n"


class LineWriter:
    """Standard error as it is now, should it be redirected later. A line goes out in one piece, or it is dropped."""

    torn: ClassVar[bool] = False  # a full disk took half a line: the next one begins on a line of its own

    def msg(self, line: bytes) -> None:
        """Raises what the operating system says."""
        stream = sys.stderr
        try:
            descriptor = stream.fileno()
        except OSError:  # a stream in memory
            stream.write(line.decode())
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError("nobody reads the log")
        line = b"\n" + line if LineWriter.torn else line
        LineWriter.torn = os.write(descriptor, line) < len(line)
        if LineWriter.torn:
            raise BlockingIOError("half a line was taken")

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


def never_raising(bound: Any) -> Any:
    """The same logger, whose lines are dropped and counted where they cannot be made or written."""

    class NeverRaising(bound):  # type: ignore[misc]
        def _proxy_to_logger(self, method_name: str, event: str | None = None, *args: Any, **kw: Any) -> None:
            try:
                super()._proxy_to_logger(method_name, event, *args, **kw)
            except Exception:  # noqa: BLE001 - the log's own fault must be nobody else's
                _counted(LINES_DROPPED)

    return NeverRaising


class LibraryHandler(logging.Handler):
    """Lines of the libraries: which one, how serious, from where; their text only where we can vouch for it."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = {"library": record.name, "place": f"{record.module}:{record.lineno}"}
        if record.name.startswith(TRUSTED_LIBRARIES):
            facts["text"] = _text_of(record)
        level = max(record.levelno // 10, 1) * 10  # a library may have levels of its own between the five
        structlog.get_logger().log(min(level, logging.CRITICAL), "library_message", **facts, exc_info=record.exc_info)


def _text_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # what it was to be filled in with does not fit
        return str(record.msg)


def _places(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-FRAMES_LIMIT:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames)]


def _plain(value: Any, limit: int = TEXT_LIMIT) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= limit else text[:limit] + "…"


def _whole(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

"""Log lines: JSON with allowed keys only, no text of an exception, no text of a library."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway import log, metrics

PHONE = "13800138000"
GENERAL_LOGGER = logging.getLogger("some.library")


@pytest.fixture(autouse=True)
def configured(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """This process's logging, and what it was before."""
    root = logging.getLogger()
    handlers, level, before = list(root.handlers), root.level, structlog.get_config()
    log.configure("info")
    yield
    structlog.configure(**before)
    root.handlers, root.level = handlers, level


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    written = capsys.readouterr().err.splitlines()
    assert len(written) == 1
    parsed: dict[str, object] = json.loads(written[0])
    return parsed


async def dropped() -> float:
    page = (await metrics.page()).decode()
    lines = [text for text in page.splitlines() if text.startswith("parasol_log_keys_dropped_total ")]
    return float(lines[0].split()[1]) if lines else 0.0


def test_a_line_has_time_level_event_and_the_interaction(capsys: pytest.CaptureFixture[str]) -> None:
    with structlog.contextvars.bound_contextvars(interaction_id="i-1"):
        structlog.get_logger().info("claim_decided", partner_id="parkco", count=3)
    written = line(capsys)
    assert str(written.pop("timestamp")).endswith("Z")
    assert written == {"level": "info", "event": "claim_decided", "interaction_id": "i-1", "partner_id": "parkco",
                       "count": 3}  # fmt: skip


async def test_a_key_outside_the_list_is_dropped_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    before = await dropped()
    structlog.get_logger().info("claim_decided", phone=PHONE, body={"Phone": PHONE})
    assert PHONE not in json.dumps(line(capsys))
    assert await dropped() == before + 2


def test_an_event_that_is_a_sentence_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger().info(f"customer {PHONE} came")
    assert line(capsys)["event"] == "unnamed_event"


def test_an_exception_shows_where_and_what_class_but_not_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(f"Key (phone)=({PHONE}) already exists")
    except ValueError:
        structlog.get_logger().exception("unexpected_failure")
    written = line(capsys)
    assert written["error"] == "ValueError"
    assert "test_log.py" in str(written["trace"])
    assert PHONE not in json.dumps(written)


def test_a_library_shows_where_it_spoke_but_not_what_it_said(capsys: pytest.CaptureFixture[str]) -> None:
    GENERAL_LOGGER.warning("cannot parse %s", PHONE)
    written = line(capsys)
    assert (written["event"], written["library"], written["level"]) == ("library_message", "some.library", "warning")
    assert PHONE not in json.dumps(written)


def test_a_long_value_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger().info("claim_decided", reason="x" * 10_000)
    assert len(str(line(capsys)["reason"])) == log.TEXT_LIMIT + 1


def test_below_the_level_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger().debug("claim_decided")
    GENERAL_LOGGER.debug("quiet")
    assert capsys.readouterr().err == ""

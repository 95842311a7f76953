"""Referral batches when things go wrong: a crash in the middle, two workers at once, files twice, files in pieces."""

import asyncio
import hashlib
from dataclasses import replace

import asyncpg
import pytest

from gateway.call import File
from gateway.database import Connection
from gateway.referrals import receiving
from gateway.referrals.batch import (
    WAITING_LIMIT,
    FileArriving,
    FileMalformed,
    FileNotAsDeclared,
    FileReceivedBefore,
    ReferralsNotAgreed,
    TooManyBatches,
)
from gateway.referrals.model import Batch, Evidence
from gateway.referrals.receiving import Declaration
from gateway.referrals.store import batches as store
from tests.conftest import past_all_rules
from tests.faults.referral_room import DAY, NOW, PHONES, Room, csv_file, row, tokens


async def test_every_row_of_a_file_gets_its_result(room: Room) -> None:
    first, second, third = await tokens(room, "parkco", PHONES[:3])
    batch = await room.send(
        [
            row(first),
            row("idt_1_short"),
            row(first.replace("idt_1_", "idt_9_")),
            row(second, consent=""),
            row(second, consent="has blanks"),
            row(second, touched="2026-02-31T00:00:00Z"),
            row(second, touched="yesterday"),
            row(second, touched="2026-09-15T08:06:00Z"),
            row(second, site="lot-9"),
            row(second, touched="2026-08-01T00:00:00Z"),
            row(second, site="lot-1", touched="2026-09-15T16:00:00.5+08:00"),
            row(second),
            row(third, touched="2026-09-15T08:00:50Z"),
        ]
    )
    assert await room.batches.apply_batches_due(NOW + 1) == 13
    async with room.database.connection() as conn:
        results = await store.results(conn, batch.batch_id, codes=receiving.ROW_CODES, after_row=0, limit=100)
    assert [(result.row_no, result.code) for result in results] == [
        (1, "OK"),
        (2, "TOKEN_MALFORMED"),
        (3, "TOKEN_EPOCH_UNKNOWN"),
        (4, "CONSENT_MISSING"),
        (5, "CONSENT_MALFORMED"),
        (6, "TOUCHED_AT_MALFORMED"),
        (7, "TOUCHED_AT_MALFORMED"),
        (8, "TOUCHED_IN_FUTURE"),
        (9, "SITE_UNKNOWN"),
        (10, "TOO_LATE"),
        (11, "OK"),
        (12, "DUPLICATE_IN_FILE"),
        (13, "OK"),
    ]
    after = await room.batches.find("parkco", batch.batch_id)
    assert (after.state, after.ok_count, after.error_count, after.excluded_count) == ("APPLIED", 3, 8, 2)


async def test_an_applied_batch_is_one_fact_and_its_text_does_not_stay(room: Room) -> None:
    await room.send([row(await room.token("parkco", PHONES[0])), row("bad"), row("worse")])
    await room.batches.apply_batches_due(NOW)
    (event,) = await room.sql("SELECT partner, leaf FROM event WHERE type = 'claim.recorded'")
    assert b'"error":2,"excluded":0' in event["leaf"]
    assert not await room.sql("SELECT FROM referral_row")


async def test_a_clock_that_is_ahead_does_not_make_a_touch_later_than_its_receipt(room: Room) -> None:
    await room.send([row(await room.token("parkco", PHONES[0]), touched="2026-09-15T08:00:50Z")])
    await room.batches.apply_batches_due(NOW)
    (touch,) = await room.sql("SELECT occurred_at_ms FROM referral_touch")
    assert touch["occurred_at_ms"] == NOW


async def test_a_crash_in_the_middle_of_a_batch_resumes_without_double_claims(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "CHUNK_ROWS", 10)
    known = await tokens(room, "parkco", PHONES)
    batch = await room.send([row(token) for token in [*known, known[0]]])
    real = store.advance

    async def die(conn: Connection, *_: object, **rest: object) -> object:
        if rest["to_row"] == 20:
            pid = await conn.fetchval("SELECT pg_backend_pid()")
            async with past_all_rules(room.database.url) as other:
                await other.execute("SELECT pg_terminate_backend($1)", pid)
        return await real(conn, *_, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "advance", die)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
        await room.batches.apply_batches_due(NOW + 1)
    stopped = await room.batches.find("parkco", batch.batch_id)
    assert (stopped.state, stopped.cursor_row) == ("APPLYING", 10)
    monkeypatch.setattr(store, "advance", real)
    assert await room.batches.apply_batches_due(NOW + 2) == 31
    counts = await room.sql(
        "SELECT (SELECT count(*) FROM referral_claim) AS claims, (SELECT count(*) FROM referral_touch) AS touches,"
        " (SELECT count(*) FROM event WHERE type = 'claim.recorded') AS events"
    )
    assert counts == [{"claims": 40, "touches": 40, "events": 1}]
    done = await room.batches.find("parkco", batch.batch_id)
    assert (done.state, done.ok_count, done.excluded_count) == ("APPLIED", 40, 1)


async def test_two_processes_that_apply_at_once_share_the_work(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "CHUNK_ROWS", 5)
    known = await tokens(room, "parkco", PHONES)
    await room.send([row(token) for token in known[:20]], number="a")
    await room.send([row(token) for token in known[10:]], number="b")
    while True:
        done = await asyncio.gather(room.batches.apply_batches_due(NOW), room.batches.apply_batches_due(NOW))
        if not any(done):
            break
    claims = await room.sql("SELECT customer_token, count(*) AS n FROM referral_claim GROUP BY 1")
    assert len(claims) == 40
    assert {claim["n"] for claim in claims} == {1}


async def codes_of(room: Room, *batches: Batch) -> list[str]:
    async with room.database.connection() as conn:
        found = [
            await store.results(conn, batch.batch_id, codes=receiving.ROW_CODES, after_row=0, limit=50)
            for batch in batches
        ]
    return [result.code for results in found for result in results]


async def test_rows_sent_again_do_not_keep_a_touch_fresh(room: Room) -> None:
    """Within the gap nothing renews a touch; after it, only a contact with a consent of its own."""
    token = await room.token("parkco", PHONES[0])
    resent = [
        await room.send([row(token)], number="a"),
        await room.send([row(token, consent="c-2")], number="b"),
        await room.send([row(token, consent="c-3", touched="2026-09-15T07:59:59Z")], number="c"),
        await room.send([row(token, touched="2026-09-15T08:00:00Z")], number="d"),
        await room.send([row(token, consent="c-4", touched="2026-09-15T08:00:00Z")], number="e"),
        await room.send([row(token, consent="c-4", touched="2026-09-20T08:00:00Z")], number="f", now_ms=NOW + 5 * DAY),
    ]
    await room.batches.apply_batches_due(NOW + 5 * DAY)
    known = "ALREADY_CLAIMED_BY_YOU"
    assert await codes_of(room, *resent) == ["OK", known, known, known, "OK", known]
    assert len(await room.sql("SELECT FROM referral_touch")) == 2


async def test_a_row_told_after_late_days_is_too_late_and_poisons_nothing(room: Room) -> None:
    """From the year 0001 to the year 9999, at every offset: each such row has its code, and the others are applied."""
    tokens_ = await tokens(room, "parkco", PHONES[:12])
    moments = [
        "2026-09-12T08:00:00Z", "2026-09-12T07:59:59.999Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00-14:00",
        "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:60Z", "0000-01-01T00:00:00Z", "2026-09-15T08:01:00+00:00",
        "2026-09-15T08:01:00.001Z", "2026-09-15T22:00:00+14:00", "2026-09-15T08:00:00+99:99", "1999-12-31T23:59:59Z",
    ]  # fmt: skip
    batch = await room.send([row(token, touched=at) for token, at in zip(tokens_, moments, strict=True)])
    assert await room.batches.apply_batches_due(NOW) == 12
    assert await codes_of(room, batch) == [
        "OK", "TOO_LATE", "TOO_LATE", "TOO_LATE", "TOUCHED_IN_FUTURE", "TOUCHED_IN_FUTURE", "TOUCHED_AT_MALFORMED",
        "OK", "TOUCHED_IN_FUTURE", "OK", "TOUCHED_AT_MALFORMED", "TOO_LATE",
    ]  # fmt: skip
    assert (await room.batches.find("parkco", batch.batch_id)).state == "APPLIED"


async def test_an_applied_row_makes_its_customer_known_and_a_refused_one_does_not(room: Room) -> None:
    first, second = await tokens(room, "parkco", PHONES[:2])
    await room.send([row(first), row(second, consent="")])
    await room.batches.apply_batches_due(NOW + 7)
    known = await room.sql(
        "SELECT partner_id, token, epoch, source, known_at_ms FROM known_customer WHERE token = ANY ($1)",
        [first, second],
    )
    assert known == [{"partner_id": "parkco", "token": first, "epoch": 1, "source": "batch", "known_at_ms": NOW + 7}]


async def test_a_file_is_received_once_whatever_its_number(room: Room) -> None:
    token = await room.token("parkco", PHONES[0])
    first = await room.send([row(token)])
    assert (await room.send([row(token)])).batch_id == first.batch_id
    with pytest.raises(FileReceivedBefore, match=first.batch_id):
        await room.send([row(token)], number="other")
    other_partner = await room.send([row(token)], partner_id="shopco")
    assert other_partner.batch_id != first.batch_id, "another partner's files are none of this partner's business"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"token,consent_ref,touched_at,site\nx,y,z,\n", "header"),
        (b"customer_token,consent_ref,touched_at,site\nx,y,z\n", "line 2"),
        (b"customer_token,consent_ref,touched_at,site\na,y,z,\nx,y,z,,\n", "line 3"),
        (b"customer_token,consent_ref,touched_at,site\nx,\xff,z,\n", "line 2"),
        (b'customer_token,consent_ref,touched_at,site\n"x,y,z,\n', "line 3"),
        (b"", "header"),
    ],
)
async def test_a_file_that_cannot_be_read_leaves_nothing(room: Room, content: bytes, message: str) -> None:
    said = Declaration("n", 1, hashlib.sha256(content).hexdigest(), 1)
    batch = await room.batches.declare("parkco", said, now_ms=NOW)
    with pytest.raises(FileMalformed, match=message):
        await room.batches.receive("parkco", batch.batch_id, file=File.of(content), now_ms=NOW)
    assert (await room.batches.find("parkco", batch.batch_id)).state == "DECLARED"
    assert not await room.sql("SELECT FROM referral_row")


@pytest.mark.parametrize(("rows", "total", "message"), [(2, 1, "RowCount"), (3, 3, "ControlTotal")])
async def test_a_file_that_is_not_as_declared_leaves_nothing(room: Room, rows: int, total: int, message: str) -> None:
    file = csv_file([row("a"), row("b"), row("a")])
    said = Declaration("n", rows, hashlib.sha256(file).hexdigest(), total)
    batch = await room.batches.declare("parkco", said, now_ms=NOW)
    with pytest.raises(FileNotAsDeclared, match=message):
        await room.batches.receive("parkco", batch.batch_id, file=File.of(file), now_ms=NOW)
    with pytest.raises(FileNotAsDeclared, match="SHA-256"):
        await room.batches.receive("parkco", batch.batch_id, file=File.of(file + b"x"), now_ms=NOW)
    assert not await room.sql("SELECT FROM referral_row")


async def test_a_partner_cannot_queue_without_end(room: Room) -> None:
    for number in range(WAITING_LIMIT):
        await room.batches.declare("parkco", Declaration(f"n{number}", 1, f"{number:064x}", 1), now_ms=NOW)
    with pytest.raises(TooManyBatches):
        await room.batches.declare("parkco", Declaration("more", 1, f"{99:064x}", 1), now_ms=NOW)
    same = await room.batches.declare("parkco", Declaration("n0", 1, f"{0:064x}", 1), now_ms=NOW)
    assert same.out_number == "n0", "what is declared already may be said again"
    await room.batches.declare("parkco", Declaration("more", 1, f"{99:064x}", 1), now_ms=NOW + 2 * DAY)


@pytest.mark.parametrize("order", [None, (Evidence.SIGNED_SCAN,)])
async def test_a_contract_without_batches_declares_none(room: Room, order: tuple[Evidence, ...] | None) -> None:
    if order is None:
        del room.contracts["parkco"]
    else:
        room.contracts["parkco"] = replace(room.contracts["parkco"], order=order)
    with pytest.raises(ReferralsNotAgreed):
        await room.batches.declare("parkco", Declaration("n", 1, "0" * 64, 1), now_ms=NOW)


async def test_rows_whose_contract_ended_before_the_receipt_are_excluded(room: Room) -> None:
    token = await room.token("parkco", PHONES[0])
    batch = await room.send([row(token)])
    del room.contracts["parkco"]
    await room.batches.apply_batches_due(NOW)
    async with room.database.connection() as conn:
        (result,) = await store.results(conn, batch.batch_id, codes=receiving.ROW_CODES, after_row=0, limit=9)
    assert (result.code, result.outcome) == ("NOT_IN_CONTRACT", "EXCLUDED")


async def test_a_second_upload_while_the_first_is_read_is_told_so(room: Room) -> None:
    file = csv_file([row("x")])
    said = Declaration("n", 1, hashlib.sha256(file).hexdigest(), 1)
    batch = await room.batches.declare("parkco", said, now_ms=NOW)
    async with room.database.transaction() as conn:
        await store.lock(conn, "parkco", batch.batch_id)
        with pytest.raises(FileArriving):
            await room.batches.receive("parkco", batch.batch_id, file=File.of(file), now_ms=NOW)

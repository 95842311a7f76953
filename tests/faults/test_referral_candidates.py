"""A goal costs the partners that can have brought its customer; a big file, or many partners, delay nobody's goals."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway import metrics
from gateway.database import Connection
from gateway.partners.identity import IdentityKey
from gateway.referrals import attributing, identifying, receiving
from gateway.referrals.store import batches
from gateway.referrals.store.batches import RowTerms
from tests.faults.referral_room import DAY, NOW, PHONES, TERMS, Room, claim, row, states, tokens

MANY = [f"p{number}" for number in range(12)]


async def lookups() -> int:
    lines = (await metrics.page()).decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("parasol_goal_lookups_total "))


async def agree(room: Room, partner_ids: list[str]) -> None:
    """Partners with a contract and an identity key."""
    for partner_id in partner_ids:
        room.contracts[partner_id] = replace(TERMS, partner_id=partner_id, contract_id=f"{partner_id}-2026")
        await room.token(partner_id, PHONES[0])


async def test_a_goal_is_hashed_under_as_many_keys_as_partners_have_open_claims(room: Room) -> None:
    await agree(room, MANY)
    for partner_id in MANY[:3]:
        await claim(room, partner_id, PHONES[39], number="a")
    for phone in PHONES[:5]:
        room.feed.add("ACCOUNT_OPENED", phone, at_ms=NOW + 1)
    before = await lookups()
    assert await room.goals.attribute_goals_due(NOW + 2) == 5
    assert await lookups() - before == 5 * 3
    for phone in PHONES[:5]:
        room.feed.add("SPEND", phone, at_ms=NOW + 3, amount=1)
    assert await room.goals.attribute_goals_due(NOW + 4) == 5
    assert await lookups() - before == 5 * 3, "what a decided customer spends is looked up under no key"


async def test_claims_that_are_over_cost_nothing_but_are_heard_of_whoever_joined_in_their_time(room: Room) -> None:
    """The order of the feed decides nothing: a goal that is told two months late finds the claim of then."""
    await agree(room, MANY)
    for partner_id in MANY[:4]:
        await claim(room, partner_id, PHONES[0], number="a")
    later = NOW + 60 * DAY
    await room.goals.expire_claims_due(later)
    before = await lookups()
    room.feed.add("ACCOUNT_OPENED", PHONES[1], at_ms=later)
    assert await room.goals.attribute_goals_due(later) == 1
    assert await lookups() == before
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + DAY)
    assert await room.goals.attribute_goals_due(later + 1) == 1
    assert await lookups() - before == 4
    assert sorted((await states(room)).values()) == ["LOST", "LOST", "LOST", "OWNING"]


async def test_a_longer_look_back_agreed_later_finds_the_touches_of_before(room: Room) -> None:
    """By the terms of the day on which the person joined, as attribution has it."""
    await claim(room, "parkco", PHONES[0], number="a")
    room.contracts["parkco"] = replace(room.contracts["parkco"], version=4, lookback_ms=90 * DAY)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 50 * DAY)
    await room.goals.attribute_goals_due(NOW + 51 * DAY)
    assert await states(room) == {"parkco": "OWNING"}


async def test_the_loop_has_a_turn_after_every_step_of_hashing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve partners with open claims: no step and no transaction makes more tokens than it may."""
    monkeypatch.setattr(identifying, "HASHES_A_STEP", 5)
    monkeypatch.setattr(identifying, "HASHES_A_CHUNK", 30)
    await agree(room, MANY)
    for partner_id in MANY:
        await claim(room, partner_id, PHONES[39], number="a")
    for phone in PHONES[:10]:
        room.feed.add("ACCOUNT_OPENED", phone, at_ms=NOW + 1)
    made: list[int] = []
    token = identifying.PhoneHasher.token

    def counted(hasher: identifying.PhoneHasher, *arguments: object) -> str:
        made[-1] += 1
        return token(hasher, *arguments)  # type: ignore[arg-type]

    async def take_turns() -> None:
        while True:
            made.append(0)
            await asyncio.sleep(0)

    monkeypatch.setattr(identifying.PhoneHasher, "token", counted)
    watching = asyncio.create_task(take_turns())
    await asyncio.sleep(0)
    assert await room.goals.attribute_goals_due(NOW + 2) == 10
    watching.cancel()
    assert sum(made) == 10 * 12
    assert max(made) == 5
    transactions = await room.sql("SELECT count(*) AS goals FROM referral_goal GROUP BY xmin")
    assert max(entry["goals"] for entry in transactions) == 2  # type: ignore[type-var]


async def test_the_keys_of_many_partners_are_unsealed_some_at_a_time(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identifying, "KEYS_A_STEP", 5)
    await agree(room, MANY)
    for partner_id in MANY:
        await claim(room, partner_id, PHONES[0], number="a")
    asked: list[int] = []
    unseal = room.keys.keys_of_partners

    async def counted(conn: Connection, partner_ids: Sequence[str]) -> dict[str, tuple[IdentityKey, ...]]:
        asked.append(len(partner_ids))
        return await unseal(conn, partner_ids)

    monkeypatch.setattr(room.keys, "keys_of_partners", counted)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 1
    assert asked == [5, 5, 2]
    assert sorted((await states(room)).values()) == ["LOST"] * 11 + ["OWNING"]


async def test_a_chunk_of_rows_reads_the_claims_that_it_names_however_many_the_partner_has(room: Room) -> None:
    """Not all of the partner's, once a chunk: a million rows would take their square."""
    known = await tokens(room, "parkco", PHONES)
    rows = [*(row(token) for token in known), *(row(token, consent="c-2") for token in known)]
    sent = await room.send(rows)
    terms = RowTerms((1,), (), 30 * DAY, 3 * DAY, DAY)
    async with room.database.transaction() as conn:
        await conn.execute("SET LOCAL enable_nestloop = off")  # joined wherever it can be, as where rows are misjudged
        batch = await batches.lock_waiting(conn, sent.batch_id)
        assert batch is not None
        for to_row in range(2, len(rows) + 2, 2):
            codes = await batches.apply_rows(conn, batch, terms, to_row=to_row, now_ms=NOW)
            assert codes == {"OK" if to_row <= len(known) else "DUPLICATE_IN_FILE": 2}
            batch = replace(batch, cursor_row=to_row)
        read = await conn.fetchval(
            """SELECT sum(pg_stat_get_xact_tuples_returned(place)) FROM (
                   SELECT 'referral_claim'::regclass::oid AS place
                   UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = 'referral_claim'::regclass) AS places"""
        )
    assert read <= len(rows), "one for each row"


async def test_a_big_file_holds_up_no_goal_of_a_customer_whom_it_does_not_name(room: Room) -> None:
    """Before a row of it is applied: another's customer, nobody's customer, and one who was here before the file."""
    await claim(room, "shopco", PHONES[0], number="a")
    await room.send([row(token) for token in await tokens(room, "parkco", PHONES[2:])])
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    room.feed.add("ACCOUNT_OPENED", PHONES[1], at_ms=NOW + 1)
    room.feed.add("ACCOUNT_OPENED", PHONES[2], at_ms=NOW - 1)
    room.feed.add("ACCOUNT_OPENED", PHONES[3], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 4
    outcomes = await room.sql("SELECT outcome FROM referral_goal ORDER BY bank_event_id")
    assert [entry["outcome"] for entry in outcomes] == ["owned", "nobody", "nobody", "waits_for_owner"]


async def test_a_file_with_another_partner_s_token_holds_up_nobody(room: Room) -> None:
    await claim(room, "shopco", PHONES[0], number="a")
    await room.send([row(await room.token("shopco", PHONES[0]))])
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 1
    assert await states(room) == {"shopco": "OWNING"}


async def test_goals_that_wait_for_one_partner_s_file_never_delay_those_of_another(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributing, "WAITING_CHUNK", 1)
    monkeypatch.setattr(receiving, "CHUNK_ROWS", 1)
    monkeypatch.setattr(receiving, "CHUNKS_A_RUN", 2)
    await room.send([row("x" * 9), *(row(token) for token in await tokens(room, "parkco", PHONES[:30]))])
    await room.send([row(token) for token in await tokens(room, "shopco", PHONES[30:31])], partner_id="shopco")
    for phone in PHONES[:31]:
        room.feed.add("ACCOUNT_OPENED", phone, at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 31
    assert await room.batches.apply_batches_due(NOW + 3) == 2, "one row of each partner"
    assert await room.goals.attribute_goals_due(NOW + 4) == 1
    owners = await room.sql("SELECT partner_id, customer_id FROM referral_owner")
    assert owners == [{"partner_id": "shopco", "customer_id": f"cus-{PHONES[30]}"}]


async def test_partners_take_turns_with_their_files_whoever_came_first(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 20 chunks, then one of 2: the small one is applied after four steps."""
    monkeypatch.setattr(receiving, "CHUNK_ROWS", 2)
    monkeypatch.setattr(receiving, "CHUNKS_A_RUN", 1)
    big = await room.send([row(token) for token in await tokens(room, "parkco", PHONES)])
    small = await room.send(
        [row(token) for token in await tokens(room, "shopco", PHONES[:4])], partner_id="shopco", now_ms=NOW + 1
    )
    second = await room.send(
        [row(token, consent="c-2") for token in await tokens(room, "parkco", PHONES[:1])], number="b"
    )
    for _ in range(4):
        assert await room.batches.apply_batches_due(NOW + 2) == 2
    assert (await room.batches.find("shopco", small.batch_id)).state == "APPLIED"
    assert (await room.batches.find("parkco", big.batch_id)).cursor_row == 4
    assert (await room.batches.find("parkco", second.batch_id)).state == "RECEIVED", "a partner's own in their order"

"""Goals of the bank's feed: one owner, events twice, events late; and what no partner may find out."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from tests.faults.referral_room import DAY, NOW, PHONES, Room, claim, row, states, tokens


async def test_one_partner_owns_a_customer_and_later_goals_follow_within_the_window(room: Room) -> None:
    await claim(room, "parkco", PHONES[0], number="a")
    await claim(room, "shopco", PHONES[0], number="b", touched="2026-09-14T09:00:00Z")
    feed = room.feed
    feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    feed.add("CARD_ACTIVATED", PHONES[0], at_ms=NOW + 2)
    feed.add("SPEND", PHONES[0], at_ms=NOW + 3, amount=1250)
    feed.add("SPEND", PHONES[0], at_ms=NOW + 4, amount=99)
    feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 5)
    feed.add("SPEND", PHONES[0], at_ms=NOW + 91 * DAY, amount=1)
    assert await room.goals.attribute_goals_due(NOW + 91 * DAY) == 6
    outcomes = await room.sql("SELECT goal, outcome, partner_id FROM referral_goal ORDER BY occurred_at_ms")
    assert [(entry["goal"], entry["outcome"]) for entry in outcomes] == [
        ("ACCOUNT_OPENED", "owned"),
        ("CARD_ACTIVATED", "converted"),
        ("SPEND", "converted"),
        ("SPEND", "converted"),
        ("ACCOUNT_OPENED", "repeated"),
        ("SPEND", "window_over"),
    ]
    events = await room.sql(
        "SELECT partner, amount_minor, contract_version, leaf FROM event WHERE type = 'goal.reached' ORDER BY seq"
    )
    assert [(event["partner"], event["amount_minor"]) for event in events] == [
        ("shopco", 0),
        ("shopco", 0),
        ("shopco", 1250),
        ("shopco", 99),
    ]
    assert f'"anchor_at_ms":{NOW + 1}'.encode() in events[3]["leaf"]  # type: ignore[operator]
    assert await states(room) == {"parkco": "LOST", "shopco": "CONVERTED"}


async def test_a_bank_event_read_twice_is_judged_once(room: Room) -> None:
    await claim(room, "parkco", PHONES[0], number="a")
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1, event_id="e1")
    room.feed.add("SPEND", PHONES[0], at_ms=NOW + 2, amount=5, event_id="e2")
    room.feed.add("SPEND", PHONES[0], at_ms=NOW + 2, amount=5, event_id="e2")
    await room.goals.attribute_goals_due(NOW + 10)
    room.feed.add("SPEND", PHONES[0], at_ms=NOW + 2, amount=5, event_id="e2")
    assert await room.goals.attribute_goals_due(NOW + 11) == 1
    assert len(await room.sql("SELECT FROM event WHERE type = 'goal.reached'")) == 2


async def test_two_processes_that_attribute_at_once_decide_each_goal_once(room: Room) -> None:
    for place, phone in enumerate(PHONES):
        room.feed.add("ACCOUNT_OPENED", phone, at_ms=NOW + place + 1)
    known = await tokens(room, "parkco", PHONES)
    await room.send([row(token) for token in known])
    await room.batches.apply_batches_due(NOW)
    await asyncio.gather(*(room.goals.attribute_goals_due(NOW + 100) for _ in range(4)))
    assert len(await room.sql("SELECT FROM event WHERE type = 'goal.reached'")) == 40


async def test_a_customer_who_came_alone_cannot_be_claimed_afterwards_and_nobody_is_told(room: Room) -> None:
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW - 10)
    await room.goals.attribute_goals_due(NOW)
    await claim(room, "parkco", PHONES[0], number="a")
    await claim(room, "parkco", PHONES[1], number="b")
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 10)
    room.feed.add("CARD_ACTIVATED", PHONES[0], at_ms=NOW + 11)
    await room.goals.attribute_goals_due(NOW + 20)
    assert not await room.sql("SELECT FROM event WHERE type = 'goal.reached'")
    same = "SELECT told_until_ms, paid_at_ms, recorded_at_ms FROM referral_claim"
    customer, stranger = await room.sql(same)
    assert customer == stranger, "a claim on a customer of the bank looks like one on anybody else"
    seen = await room.sql("SELECT state, reason FROM referral_claim ORDER BY state")
    assert [(one["state"], one["reason"]) for one in seen] == [("ELIGIBLE", None), ("EXCLUDED", "had_account")]
    batches = await room.sql("SELECT ok_count, error_count, excluded_count FROM referral_batch")
    assert batches[0] == batches[1]


async def test_a_goal_waits_for_a_file_that_names_its_customer_and_was_received_before(room: Room) -> None:
    await claim(room, "shopco", PHONES[0], number="a")
    token = await room.token("parkco", PHONES[0])
    await room.send([row(token, touched="2026-09-14T09:00:00Z")])
    room.feed.add("SPEND", PHONES[0], at_ms=NOW + 2, amount=7)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 2
    assert {one["outcome"] for one in await room.sql("SELECT outcome FROM referral_goal")} == {"waits_for_owner"}
    assert await room.goals.attribute_goals_due(NOW + 2) == 0
    await room.batches.apply_batches_due(NOW + 3)
    assert await room.goals.attribute_goals_due(NOW + 4) == 2
    assert await states(room) == {"parkco": "CONVERTED", "shopco": "LOST"}
    assert not await room.sql("SELECT FROM referral_file_tokens"), "nothing is kept of a file that is applied"


async def test_an_owner_without_a_contract_then_is_not_paid(room: Room) -> None:
    await claim(room, "parkco", PHONES[0], number="a")
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    await room.goals.attribute_goals_due(NOW + 2)
    room.contracts["parkco"] = replace(room.contracts["parkco"], currency="EUR")
    room.feed.add("SPEND", PHONES[0], at_ms=NOW + 2, amount=5)
    await room.goals.attribute_goals_due(NOW + 3)
    del room.contracts["parkco"]
    room.feed.add("SPEND", PHONES[0], at_ms=NOW + 3, amount=5)
    await room.goals.attribute_goals_due(NOW + 4)
    outcomes = await room.sql("SELECT outcome FROM referral_goal ORDER BY occurred_at_ms")
    assert [entry["outcome"] for entry in outcomes] == ["owned", "currency", "no_contract"]
    assert len(await room.sql("SELECT FROM event WHERE type = 'goal.reached'")) == 1


async def test_a_claim_ends_with_its_window_and_lives_again_with_a_new_touch(room: Room) -> None:
    await claim(room, "parkco", PHONES[0], number="a")
    assert await room.goals.expire_claims_due(NOW + 29 * DAY) == 0
    assert await room.goals.expire_claims_due(NOW + 31 * DAY) == 1
    assert await states(room) == {"parkco": "EXPIRED"}
    token = await room.token("parkco", PHONES[0])
    again = row(token, consent="c-2", touched="2026-10-24T00:00:00Z")
    await room.send([again], number="b", now_ms=NOW + 40 * DAY)
    await room.batches.apply_batches_due(NOW + 40 * DAY)
    assert await states(room) == {"parkco": "ELIGIBLE"}


async def test_tokens_of_an_older_epoch_still_find_their_customer(room: Room) -> None:
    await claim(room, "parkco", PHONES[0], number="a")
    await room.begin_epoch("parkco", 2)
    assert (await room.token("parkco", PHONES[0])).startswith("idt_2_")
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    await room.goals.attribute_goals_due(NOW + 2)
    assert await states(room) == {"parkco": "OWNING"}


async def test_the_database_itself_refuses_a_second_owner_and_a_changed_log(room: Room) -> None:
    await claim(room, "parkco", PHONES[0], number="a")
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    await room.goals.attribute_goals_due(NOW + 2)
    for statement in (
        "UPDATE referral_touch SET occurred_at_ms = 1",
        "DELETE FROM referral_owner",
        "UPDATE identity_key SET key_sealed = ''",
    ):
        with pytest.raises((asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)):
            await room.sql(statement)
    with pytest.raises(asyncpg.UniqueViolationError):
        await room.sql(
            """INSERT INTO referral_owner (customer_id, joined_at_ms, exclusive_for, post_window_ms, rule, trace,
                   decided_at_ms) SELECT customer_id, joined_at_ms, '{}', 1, 'r', '[]', 1 FROM referral_owner"""
        )

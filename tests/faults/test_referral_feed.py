"""The bank's feed when it is told in any order, when it says what cannot be, and when terms cannot be read."""

from dataclasses import replace
from itertools import permutations

import pytest

from gateway.referrals import attributing
from gateway.referrals.model import Tenure
from tests.faults.referral_room import DAY, NOW, PHONES, Room, claim, row, states, tokens


@pytest.mark.parametrize(("chunk", "part"), [(1, 1), (2, 500), (3, 2), (500, 500), (500, 1), (500, 7)])
async def test_goals_told_in_any_order_and_any_chunks_are_paid_alike(
    room: Room, monkeypatch: pytest.MonkeyPatch, chunk: int, part: int
) -> None:
    """24 customers with the same life, each told in an order of its own, some of it twice."""
    monkeypatch.setattr(attributing, "CHUNK_EVENTS", chunk)
    monkeypatch.setattr(attributing, "PART_EVENTS", part)
    room.contracts["parkco"] = replace(room.contracts["parkco"], exclusive_for=frozenset({"CARD_ACTIVATED"}))
    known = await tokens(room, "parkco", PHONES[:24])
    await room.send([row(token) for token in known])
    await room.batches.apply_batches_due(NOW)
    life = [("ACCOUNT_OPENED", 1, 0), ("SPEND", 2, 7), ("CARD_ACTIVATED", 3, 0), ("SPEND", 4, 11)]
    for phone, order in zip(PHONES[:24], permutations(life), strict=True):
        for goal, after, amount in (*order, order[0]):
            room.feed.add(goal, phone, at_ms=NOW + after, amount=amount, event_id=f"{phone}-{goal}-{after}")
    while await room.goals.attribute_goals_due(NOW + 10):
        pass
    paid = await room.sql(
        """SELECT subject_token, occurred_at_ms, amount_minor, contract_version, currency FROM event
           WHERE type = 'goal.reached' ORDER BY occurred_at_ms, subject_token"""
    )
    assert [(one["occurred_at_ms"], one["amount_minor"]) for one in paid] == [(NOW + 3, 0)] * 24 + [(NOW + 4, 11)] * 24
    assert {(one["contract_version"], one["currency"]) for one in paid} == {(3, "CNY")}
    waiting = await room.sql("SELECT outcome, count(*) AS n FROM referral_goal GROUP BY 1 ORDER BY 1")
    assert [(one["outcome"], one["n"]) for one in waiting] == [
        ("converted", 24), ("owned", 24), ("waits_for_anchor", 48),
    ]  # fmt: skip


async def test_goals_wait_for_terms_that_cannot_be_read_and_hold_up_nobody_else(room: Room) -> None:
    await claim(room, "parkco", PHONES[0], number="a")
    await claim(room, "shopco", PHONES[0], number="b", touched="2026-09-14T09:00:00Z")
    await claim(room, "parkco", PHONES[1], number="c")
    await claim(room, "shopco", PHONES[2], number="d")
    room.feed.add("ACCOUNT_OPENED", PHONES[2], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 1
    room.unreadable.add("shopco")
    room.feed.add("SPEND", PHONES[2], at_ms=NOW + 2, amount=5)
    room.feed.add("SPEND", PHONES[0], at_ms=NOW + 3, amount=7)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    room.feed.add("ACCOUNT_OPENED", PHONES[1], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 4) == 4
    reached = "SELECT partner, amount_minor FROM event WHERE type = 'goal.reached' ORDER BY seq"
    assert [(one["partner"], one["amount_minor"]) for one in await room.sql(reached)] == [("shopco", 0), ("parkco", 0)]
    assert PHONES[0] not in str(await room.sql("SELECT tenures, tokens FROM referral_undecided")), "no phone is kept"
    assert await room.goals.attribute_goals_due(NOW + 5) == 0
    room.unreadable.clear()
    assert await room.goals.attribute_goals_due(NOW + 6) == 3
    later = [(one["partner"], one["amount_minor"]) for one in await room.sql(reached)][2:]
    assert sorted(later, key=str) == [("shopco", 0), ("shopco", 5), ("shopco", 7)]
    assert not await room.sql("SELECT FROM referral_undecided")
    assert await room.goals.attribute_goals_due(NOW + 7) == 0


async def test_a_file_whose_terms_cannot_be_read_waits_alone_and_loses_no_customer(room: Room) -> None:
    token = await room.token("shopco", PHONES[0])
    await room.send([row(token)], partner_id="shopco")
    room.unreadable.add("shopco")
    await claim(room, "parkco", PHONES[1], number="b")
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    room.feed.add("ACCOUNT_OPENED", PHONES[1], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 2
    assert await states(room) == {"parkco": "OWNING"}
    room.unreadable.clear()
    await room.batches.apply_batches_due(NOW + 3)
    await room.goals.attribute_goals_due(NOW + 3)
    assert await states(room) == {"parkco": "OWNING", "shopco": "OWNING"}


async def test_one_bad_event_never_stops_the_feed(room: Room) -> None:
    """Moments of the years 1 and 9999, texts that no table holds, accounts that never were: aside, with a reason."""
    await claim(room, "parkco", PHONES[0], number="a")
    room.feed.add("SPEND", PHONES[3], at_ms=-62_135_596_800_000)
    room.feed.add("SPEND", PHONES[3], at_ms=253_402_300_799_999)
    room.feed.add("SPEND", PHONES[3], at_ms=NOW, amount=10**30)
    room.feed.add("SPEND", "nophone", at_ms=NOW)
    room.feed.add("SPEND", PHONES[4], at_ms=NOW, event_id="a\x00b")
    room.feed.tenures[PHONES[5]] = (Tenure(NOW + 1, None),)
    room.feed.add("SPEND", PHONES[5], at_ms=NOW)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 7
    aside = await room.sql("SELECT bank_event_id, reason FROM referral_goal_aside ORDER BY aside_id")
    assert [one["reason"] for one in aside] == [
        "moment_out_of_range", "moment_out_of_range", "amount_malformed", "phone_malformed", "id_malformed",
        "no_account_then",
    ]  # fmt: skip
    assert aside[4]["bank_event_id"] == "a?b"
    assert await states(room) == {"parkco": "OWNING"}


@pytest.mark.parametrize("part", [1, 500])
async def test_a_value_that_no_table_holds_sets_one_event_aside_and_no_other(
    room: Room, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """Should a check be missing one day: the events around it are judged all the same, whatever was being written."""
    monkeypatch.setattr(attributing, "PART_EVENTS", part)
    monkeypatch.setattr(attributing, "why_not", lambda goal, *, now_ms: None)
    await claim(room, "parkco", PHONES[0], number="a")
    room.feed.add("SPEND", PHONES[1], at_ms=NOW, amount=1)
    room.feed.add("SPEND", PHONES[2], at_ms=NOW, amount=2**70)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    assert await room.goals.attribute_goals_due(NOW + 2) == 3
    assert [one["reason"] for one in await room.sql("SELECT reason FROM referral_goal_aside")] == ["unwritable"]
    assert await states(room) == {"parkco": "OWNING"}


async def test_the_feed_vouches_for_a_customer_only_where_a_goal_has_paid(room: Room) -> None:
    """The token of a new epoch becomes known by the first goal that pays, never by who banks here."""
    await claim(room, "parkco", PHONES[0], number="a")
    room.feed.add("ACCOUNT_OPENED", PHONES[1], at_ms=NOW - DAY)
    await room.goals.attribute_goals_due(NOW)
    await claim(room, "parkco", PHONES[1], number="b")
    await room.begin_epoch("parkco", 2)
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    room.feed.add("CARD_ACTIVATED", PHONES[1], at_ms=NOW + 1)
    await room.goals.attribute_goals_due(NOW + 2)
    known = await room.sql("SELECT token FROM known_customer WHERE source = 'feed'")
    assert [one["token"] for one in known] == [await room.token("parkco", PHONES[0])]


async def test_a_goal_that_the_contract_pays_nothing_for_is_not_told(room: Room) -> None:
    await claim(room, "parkco", PHONES[0], number="a")
    room.contracts["parkco"] = replace(room.contracts["parkco"], paid_for=frozenset({"SPEND"}))
    room.feed.add("ACCOUNT_OPENED", PHONES[0], at_ms=NOW + 1)
    await room.goals.attribute_goals_due(NOW + 2)
    assert not await room.sql("SELECT FROM event WHERE partner = 'parkco' AND type LIKE 'goal.%'")
    assert await states(room) == {"parkco": "OWNING"}
